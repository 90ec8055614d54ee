import type { IncomingMessage, RequestListener } from 'node:http';
import { AttestationError } from '@dstack-cloud/attestation';
import {
  type CallRecord,
  createPrpcHandler,
  LARGE_BODY_LIMIT,
  networkOf,
  type PlainResponse,
  type PlainRoute,
  type PublicError,
  takeToll,
} from '@dstack-cloud/prpc';
import { errorChain } from '@dstack-cloud/runtime';
import type { Agent } from '../agent/agent.ts';
import { GuestError } from '../errors.ts';
import type { Containers, ReadLog } from '../machine/containers.ts';
import { PublicEvidence } from '../public/public-evidence.ts';
import { PublicLimits } from '../public/public-limits.ts';
import { dstackGuestService } from '../services/dstack-guest.ts';
import { type GuestApiOptions, guestApiService } from '../services/guest-api.ts';
import { tappdService } from '../services/tappd.ts';
import { workerService } from '../services/worker.ts';
import { REVISION, VERSION } from '../version.ts';
import { attestationRoute } from './attestation-route.ts';
import { dashboardRoute } from './dashboard-route.ts';
import { getAttestationRoute } from './get-attestation-route.ts';
import { jsonAnswer } from './json-answer.ts';
import { journalRoute, logsRoute } from './logs-route.ts';
import { metricsRoute } from './metrics-route.ts';

/** Request listeners of the agent, one per listener of docs/protocol/guest-agent.md section 1. */
export interface Handlers {
  readonly dstack: RequestListener;
  readonly tappd: RequestListener;
  readonly external: RequestListener;
  readonly guestApi: RequestListener;
}

/** What strangers ask costs their network as much as a connection. */
const PAGE_COST = 1;
const TOO_MANY: PlainResponse = {
  status: 429,
  headers: { 'Retry-After': '6' },
  body: 'Too many requests; try again later\n',
};

/** Makes the listeners' handlers over one agent. */
export function createHandlers(agent: Agent, options: GuestApiOptions): Handlers {
  const isSimulated = agent.fixture || agent.config.tdxRootFile !== undefined;
  const server = isSimulated ? 'dstack Simulator' : 'dstack guest agent';
  const common = {
    before: (request: IncomingMessage) => request,
    publicError,
    onCall: (call: CallRecord) => logCall(agent, call),
  };
  const guest = dstackGuestService(agent);
  const limits = new PublicLimits();
  const evidence = new PublicEvidence(agent, limits);
  // The machine's own applications may have large data signed.
  const ofApplications = { unknownMethodStatus: 404, bodyLimit: LARGE_BODY_LIMIT } as const;
  return {
    dstack: createPrpcHandler<IncomingMessage>({
      ...common,
      headers: { Server: server },
      mounts: [{ path: '/', services: [guest], ...ofApplications }],
      routes: [getAttestationRoute(agent)],
    }),
    // SDKs inherit paths: TappdClient.getKey() posts to /GetKey here, or to /prpc/Tappd.GetKey.
    tappd: createPrpcHandler<IncomingMessage>({
      ...common,
      headers: { Server: server },
      mounts: [
        { path: '/prpc', trim: 'Tappd.', services: [tappdService(agent), guest], ...ofApplications },
        { path: '/', services: [guest], ...ofApplications },
      ],
    }),
    external: createPrpcHandler<IncomingMessage>({
      ...common,
      headers: { Server: server, 'X-App-Version': `v${VERSION} (${REVISION})` },
      guard: (request) => (takeToll(request, PAGE_COST) ? undefined : TOO_MANY),
      mounts: [
        {
          path: '/prpc',
          trim: 'Worker.',
          services: [workerService(agent, evidence)],
          bodyLimit: MAX_PUBLIC_BODY,
          unknownMethodStatus: 404,
        },
      ],
      maxBufferedBytes: MAX_PUBLIC_BUFFERED,
      routes: externalRoutes(agent, { ...options, limits, evidence }),
    }),
    guestApi: createPrpcHandler<IncomingMessage>({
      ...common,
      headers: { Server: server },
      mounts: [{ path: '/api', services: [guestApiService(agent, options)], unknownMethodStatus: 404 }],
    }),
  };
}

/** The methods of the external listener take a name at most. */
const MAX_PUBLIC_BODY = 4 * 1024;
const MAX_PUBLIC_BUFFERED = 4 * 1024 * 1024;

interface PublicParts {
  readonly containers: Containers;
  readonly journal?: ReadLog;
  readonly limits: PublicLimits;
  readonly evidence: PublicEvidence;
}

function externalRoutes(agent: Agent, { containers, journal, limits, evidence }: PublicParts): PlainRoute[] {
  const { publicLogs, publicSysinfo } = agent.compose;
  return [
    dashboardRoute(agent, containers),
    attestationRoute(agent, evidence),
    // The agent only starts with its keys loaded, so being able to answer is the answer.
    { path: '/healthz', handle: () => jsonAnswer({ status: 'ok', version: VERSION }) },
    ...(publicSysinfo ? [metricsRoute(agent)] : []),
    ...(publicLogs ? [logsRoute(agent, containers, limits)] : []),
    ...(publicLogs && journal !== undefined ? [journalRoute(agent, journal, limits)] : []),
  ];
}

/** Errors of the machine are told to its applications: they hold no secret, and nothing else helps to find the cause. */
function publicError(error: unknown): PublicError | undefined {
  if (!(error instanceof GuestError || error instanceof AttestationError)) return undefined;
  return { text: errorChain(error), code: 'UNAVAILABLE', status: 503 };
}

function logCall(agent: Agent, call: CallRecord): void {
  const { method, known, mount, status, durationMs, error, request } = call;
  const fields = { method: known ? method : 'unknown', mount, status, ms: Math.round(durationMs) };
  if (status >= 500)
    agent.log.warn({ ...fields, source: sourceOf(request), error: errorChain(error) }, 'Call failed');
  else agent.log.debug(fields, 'Call');
}

function sourceOf({ socket }: IncomingMessage): string {
  return networkOf(socket.remoteAddress ?? '');
}
