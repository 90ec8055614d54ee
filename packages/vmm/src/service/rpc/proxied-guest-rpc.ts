import { utf8 } from '@dstack-cloud/encoding';
import {
  createPrpcClient,
  guestApi,
  implement,
  type PrpcClient,
  PrpcError,
  RpcError,
  type ServiceImplementation,
} from '@dstack-cloud/prpc';
import { VmmError } from '../../errors.ts';
import { callGuest } from '../../vm/call-guest.ts';
import type { Machines } from '../machines/machines.ts';

/** A guest that is busy answers late; one that hangs must not hold its callers. */
const ANSWER_MS = 10_000;

/** Service `guest_api.ProxiedGuestApi`: what the host may ask of a guest, for callers of the VMM. */
export function proxiedGuestRpc(
  machines: Pick<Machines, 'find' | 'shutdown'>,
  timeoutMs: number = ANSWER_MS,
): ServiceImplementation<unknown> {
  const asking = async <T>(
    id: string,
    ask: (guest: PrpcClient<typeof guestApi.GuestApi>) => Promise<T>,
  ): Promise<T> => {
    const { status } = await machines.find(id);
    const runDir = status.state.run_dir;
    if (runDir === null) throw new VmmError('not_running', `${status.name} is not running`);
    try {
      return await ask(guestOf(runDir, timeoutMs));
    } catch (error) {
      // The answer of a guest is whatever it likes.
      if (error instanceof PrpcError)
        throw new RpcError(`The guest of ${status.name} answers something else`, {
          code: 'UNAVAILABLE',
          cause: error,
        });
      throw error;
    }
  };
  return implement(guestApi.ProxiedGuestApi)<unknown>({
    Info: ({ id }) => asking(id, (guest) => guest.info()),
    SysInfo: ({ id }) => asking(id, (guest) => guest.sysInfo()),
    NetworkInfo: ({ id }) => asking(id, (guest) => guest.networkInfo()),
    ListContainers: ({ id }) => asking(id, (guest) => guest.listContainers()),
    Shutdown: ({ id }) => machines.shutdown(id),
  });
}

function guestOf(runDir: string, timeoutMs: number): PrpcClient<typeof guestApi.GuestApi> {
  return createPrpcClient(guestApi.GuestApi, {
    call: async ({ method }) => {
      const answer = await callGuest(runDir, method, {}, timeoutMs);
      return { status: 200, body: utf8(JSON.stringify(answer)) };
    },
    close: () => undefined,
  });
}
