import type { Socket } from 'node:net';

/** The parent instance, as a Nitro enclave sees it. */
export const PARENT_CID = 3;

/** Opens and accepts streams between a machine and those that it hosts, whatever carries them. */
export interface Vsock {
  /** @throws VsockError */
  connect(cid: number, port: number): Promise<Socket>;
  /**
   * @param onStream gets each stream with the context id of the other side, where the carrier tells it
   * @throws VsockError
   */
  listen(port: number, onStream: (stream: Socket, cid: number | undefined) => void): Promise<VsockServer>;
}

/** A port that is listened to. */
export interface VsockServer {
  /** Takes no more streams; those that are open stay. */
  close(): Promise<void>;
}
