import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

const CONNECT_MS = 20_000;
const ANSWER_MS = 120_000;
const PIECE = 1024;

/** QEMU's debugger (GDB remote serial protocol): runs a guest up to an instruction, and reads and writes its memory there. */
export class GuestDebugger {
  readonly #socket: Socket;
  #received = '';
  #waiting: ((packet: string) => void) | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding('latin1');
    socket.on('data', (text) => this.#take(String(text)));
    socket.on('error', () => undefined);
  }

  /** Connects once QEMU listens; the guest stands still from then on. */
  static async open(path: string): Promise<GuestDebugger> {
    const deadline = Date.now() + CONNECT_MS;
    for (;;) {
      const socket = await new Promise<Socket | undefined>((resolve) => {
        const one = connect({ path });
        one.once('connect', () => resolve(one));
        one.once('error', () => resolve(undefined));
      });
      if (socket !== undefined) return new GuestDebugger(socket);
      if (Date.now() > deadline) throw new Error('QEMU does not open its debugger');
      await sleep(10);
    }
  }

  /** Runs the guest until it is about to execute what lies at an address. */
  async runTo(address: number): Promise<void> {
    const place = `${address.toString(16)},1`;
    await this.#expect(`Z1,${place}`, 'OK');
    const stopped = await this.#ask('c');
    if (!/^[TS]05/.test(stopped)) throw new Error(`The guest stopped with ${stopped}`);
    await this.#expect(`z1,${place}`, 'OK');
  }

  async read(address: number, length: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    for (let at = 0; at < length; at += PIECE) {
      const size = Math.min(PIECE, length - at);
      const answer = await this.#ask(`m${(address + at).toString(16)},${size.toString(16)}`);
      if (answer.length !== 2 * size) throw new Error(`Memory at ${address + at} cannot be read: ${answer}`);
      parts.push(Buffer.from(answer, 'hex'));
    }
    return Buffer.concat(parts);
  }

  async write(address: number, bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; at += PIECE) {
      const piece = Buffer.from(bytes.subarray(at, at + PIECE));
      const head = `M${(address + at).toString(16)},${piece.length.toString(16)}`;
      await this.#expect(`${head}:${piece.toString('hex')}`, 'OK');
    }
  }

  /** Lets the guest run, and leaves it. */
  async detach(): Promise<void> {
    await this.#expect('D', 'OK');
    this.#socket.destroy();
  }

  async #expect(command: string, answer: string): Promise<void> {
    const found = await this.#ask(command);
    if (found !== answer) throw new Error(`The debugger answers ${command.slice(0, 40)} with ${found}`);
  }

  async #ask(command: string): Promise<string> {
    const sum = [...command].reduce((total, one) => total + one.charCodeAt(0), 0) & 0xff;
    return await new Promise<string>((resolve, reject) => {
      const fail = (): void => reject(new Error('QEMU ended while its guest was debugged'));
      const timer = setTimeout(
        () => reject(new Error(`The debugger does not answer ${command.slice(0, 40)}`)),
        ANSWER_MS,
      );
      this.#socket.once('close', fail);
      this.#waiting = (packet) => {
        clearTimeout(timer);
        this.#socket.off('close', fail);
        resolve(packet);
      };
      this.#socket.write(`$${command}#${sum.toString(16).padStart(2, '0')}`, 'latin1');
    });
  }

  #take(text: string): void {
    this.#received += text;
    for (;;) {
      const packet = /\$([^#]*)#[0-9a-f]{2}/.exec(this.#received);
      if (packet === null) return;
      this.#received = this.#received.slice(packet.index + packet[0].length);
      this.#socket.write('+');
      const waiting = this.#waiting;
      this.#waiting = undefined;
      waiting?.(packet[1]!);
    }
  }
}
