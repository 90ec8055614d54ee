/** The guest agent of a simulated machine, as far as a KMS in it needs one: evidence and the VM configuration. */
import { createServer } from 'node:http';
import { encodeAttestation } from '@dstack-cloud/attestation';
import { createPrpcHandler, DstackGuest, implement } from '@dstack-cloud/prpc';
import type { SimulatedPlatform } from '@dstack-cloud/tee-simulator';
import { attest, bootOf, type Workload } from './simulated-workload.ts';

export type MachineAgent = { readonly address: string; close(): Promise<void> };

/** Listens on `socket`; a test of a crash may have `onCall` end the caller first. */
export async function startMachineAgent(options: {
  socket: string;
  hardware: SimulatedPlatform;
  workload: Workload;
  onCall?: (method: string) => Promise<void> | void;
}): Promise<MachineAgent> {
  const { socket, hardware, workload, onCall } = options;
  const service = implement(DstackGuest)<undefined>({
    Attest: async ({ reportData }) => {
      await onCall?.('Attest');
      return { attestation: encodeAttestation(attest(hardware, workload, reportData)) };
    },
    Info: async () => {
      await onCall?.('Info');
      return { vmConfig: JSON.stringify(bootOf(workload.image).vmConfig) };
    },
  });
  const server = createServer(createPrpcHandler({ mounts: [{ path: '/', trim: '', services: [service] }] }));
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  return {
    address: `unix:${socket}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
