import { isReservedEvent } from '@dstack-cloud/attestation';
import { utf8 } from '@dstack-cloud/encoding';
import { RpcError } from '@dstack-cloud/prpc';
import { errorChain } from '@dstack-cloud/runtime';
import type { Agent } from './agent.ts';

/** Longest event name and largest payload of an application, bytes (docs/protocol/guest-agent.md section 4.5). */
const MAX_NAME = 128;
const MAX_PAYLOAD = 64 * 1024;

/**
 * EmitEvent: extends RTMR3 and appends to the runtime event log. Names of the system's own events are refused.
 *
 * @throws RpcError
 */
export async function emitEvent(agent: Agent, event: string, payload: Uint8Array): Promise<void> {
  const refuse = (text: string): never => {
    throw new RpcError(text, { code: 'INVALID_ARGUMENT' });
  };
  // Nothing would be extended, and who is told that it was would rely on it.
  if (agent.fixture)
    refuse('Events cannot be emitted: this agent serves recorded evidence, which no event can change');
  if (!agent.config.allowAppEvents) refuse('Events of applications are switched off (allow_app_events)');
  if (event === '') refuse('Event name is empty');
  if (utf8(event).length > MAX_NAME) refuse(`Event name is longer than ${MAX_NAME} bytes`);
  if (isReservedEvent(event)) refuse(`Event name ${event} is reserved for the system`);
  if (payload.length > MAX_PAYLOAD) refuse(`Event payload is larger than ${MAX_PAYLOAD} bytes`);
  const version = agent.compose.eventLogVersion;
  try {
    await agent.device.emitEvent(version === 2 ? { event, payload, version } : { event, payload });
  } catch (cause) {
    throw new RpcError(`Failed to emit event: ${errorChain(cause)}`, {
      code: 'UNAVAILABLE',
      status: 503,
      cause,
    });
  } finally {
    // Also after a failure: how far the device got is not known.
    agent.local.changed();
  }
}
