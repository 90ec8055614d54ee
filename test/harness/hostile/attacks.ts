/** What a stranger does to a listener: each attack goes on until it is told to end, from one address. */
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { head } from './raw-client.ts';

export type AttackTarget = {
  readonly port: number;
  readonly isTls: boolean;
  /** A page that needs no credential, and where a body goes. */
  readonly page: string;
  readonly post: string;
  readonly headers: Readonly<Record<string, string>>;
};

type Identity = { readonly cert: string; readonly key: string };

/** What takes long to make, made once. */
export type Material = {
  readonly packed: Identity;
  readonly forged: readonly Identity[];
  readonly csr: string;
  /** Bodies with evidence that nothing stands behind, for a verifier. */
  readonly unbacked: readonly string[];
};

type AttackContext = {
  readonly target: AttackTarget;
  readonly from: string;
  /** `Date.now()` at which it ends. */
  readonly until: number;
  readonly material: Material;
};

type Attack = (context: AttackContext) => Promise<void>;

const LARGEST = Buffer.alloc(10 * 2 ** 20, ' ');
const VALUES = Buffer.from(`{"x":[${'[],'.repeat(20_000)}1]}`);
const GARBAGE = Buffer.from(Array.from({ length: 1_024 }, (_, index) => (index * 167 + 13) % 256));
/** Connections that one attacker holds. */
const HELD = 40;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

function open(
  { target, from }: AttackContext,
  identity?: Identity,
  isPlain = false,
): Promise<Socket | undefined> {
  const place = { host: '127.0.0.1', port: target.port, localAddress: from };
  return new Promise((resolve) => {
    const isTls = target.isTls && !isPlain;
    const socket = isTls
      ? connectTls({ ...place, rejectUnauthorized: false, ...identity })
      : connectTcp(place);
    const late = setTimeout(() => socket.destroy(), 1_000);
    socket.on('error', () => undefined);
    socket.once('close', () => {
      clearTimeout(late);
      resolve(undefined);
    });
    socket.once(isTls ? 'secureConnect' : 'connect', () => {
      clearTimeout(late);
      resolve(socket);
    });
  });
}

/** Waits for an answer, the end or so many milliseconds. */
function heard(socket: Socket, ms: number): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      socket.off('data', done);
      socket.off('close', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    socket.once('data', done);
    socket.once('close', done);
  });
}

/** One connection after the other, and what is done with each. */
function again(
  act: (socket: Socket, context: AttackContext, turn: number) => Promise<void>,
  options: { identity?: (context: AttackContext, turn: number) => Identity; isPlain?: boolean } = {},
): Attack {
  return async (context) => {
    for (let turn = 0; Date.now() < context.until; turn++) {
      const socket = await open(context, options.identity?.(context, turn), options.isPlain);
      if (socket !== undefined) await act(socket, context, turn);
      socket?.destroy();
      await pause(2);
    }
  };
}

/** Many connections at the same time, opened again when they are ended. */
function hold(begin: (socket: Socket, context: AttackContext) => void): Attack {
  return async (context) => {
    let held: Socket[] = [];
    while (Date.now() < context.until) {
      held = held.filter(({ destroyed }) => !destroyed);
      const more = await Promise.all(Array.from({ length: HELD - held.length }, () => open(context)));
      for (const socket of more) {
        if (socket === undefined) continue;
        begin(socket, context);
        held.push(socket);
      }
      await pause(200);
    }
    for (const socket of held) socket.destroy();
  };
}

function postOf(
  path: string | undefined,
  body: (context: AttackContext, turn: number) => string | Buffer,
): Attack {
  return again(async (socket, context, turn) => {
    const bytes = body(context, turn);
    const { post, headers } = context.target;
    socket.write(head('POST', path ?? post, { ...headers, 'Content-Length': bytes.length }));
    socket.write(bytes);
    await heard(socket, 500);
  });
}

/** Every attack by its name, as the table of limits has it. */
export const ATTACKS: Readonly<Record<string, Attack>> = {
  'connections that say nothing': hold(() => undefined),
  'bytes that are nothing': again(
    async (socket) => {
      socket.write(GARBAGE);
      await heard(socket, 50);
    },
    { isPlain: true },
  ),
  'thousands of requests at once': again(async (socket, { target }) => {
    socket.write(head('GET', target.page, target.headers).repeat(2_000));
    await heard(socket, 300);
  }),
  'requests that are refused': again(async (socket, _, turn) => {
    for (let count = 0; count < 5 && !socket.destroyed; count++) {
      socket.write(head('POST', `/prpc/Nope${turn}?json`, { 'Content-Length': 0 }));
      await heard(socket, 100);
    }
  }),
  'the largest body': postOf(undefined, () => LARGEST),
  'a body of many values': postOf(undefined, () => VALUES),
  'bodies that stand still': hold((socket, { target }) =>
    socket.write(
      `${head('POST', target.post, { ...target.headers, 'Content-Length': 60_000 })}${' '.repeat(50_000)}`,
    ),
  ),
  'answers that nobody reads': hold((socket, { target }) => {
    socket.pause();
    socket.write(head('GET', target.page, target.headers).repeat(6));
  }),
  'certificates that unpack to megabytes': again(
    async (socket) => {
      socket.write(head('POST', '/prpc/GetAppKey?json', { 'Content-Length': 0 }));
      await heard(socket, 500);
    },
    { identity: ({ material }) => material.packed },
  ),
  'forged evidence': again(
    async (socket) => {
      socket.write(head('POST', '/prpc/GetAppKey?json', { 'Content-Length': 0 }));
      await heard(socket, 500);
    },
    { identity: ({ material: { forged } }, turn) => forged[turn % forged.length]! },
  ),
  'a signing request of 130,000 keys': postOf('/prpc/SignCert?json', ({ material }) => material.csr),
  'wrong credentials': again(async (socket, { target }, turn) => {
    for (let count = 0; count < 5 && !socket.destroyed; count++) {
      const guess = { Authorization: `Basic ${Buffer.from(`user:${turn}-${count}`).toString('base64')}` };
      socket.write(head('POST', target.post, { ...guess, 'Content-Length': 0 }));
      await heard(socket, 200);
    }
  }),
  'evidence that needs collateral': postOf(
    undefined,
    ({ material: { unbacked } }, turn) => unbacked[turn % unbacked.length]!,
  ),
  'nonces to be quoted': again(async (socket, _, turn) => {
    for (let count = 0; count < 5 && !socket.destroyed; count++) {
      socket.write(head('GET', `/attestation?nonce=${(turn * 8 + count).toString(16).padStart(8, '0')}`));
      await heard(socket, 300);
    }
  }),
};
