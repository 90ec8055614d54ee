import { EventEmitter } from 'node:events';
import { Server, type Socket } from 'node:net';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { admitOnly } from './admission.ts';

/** A connection as a server sees it. */
class FakeSocket extends EventEmitter {
  readonly remoteAddress: string | undefined;
  isDestroyed = false;

  constructor(remoteAddress: string | undefined) {
    super();
    this.remoteAddress = remoteAddress;
  }

  destroy(): void {
    if (this.isDestroyed) return;
    this.isDestroyed = true;
    this.emit('close');
  }
}

function service(max: number, maxPerAddress: number, admits = (_: string) => true) {
  const server = new Server();
  const admitted: unknown[] = [];
  let turnedAway = 0;
  server.on('connection', (socket) => admitted.push(socket));
  admitOnly(server, {
    max,
    maxPerAddress,
    admits,
    onTurnedAway: () => {
      turnedAway += 1;
    },
  });
  return {
    turnedAway: () => turnedAway,
    /** The connection, when it was let in. */
    connect(address: string | undefined): FakeSocket | undefined {
      const socket = new FakeSocket(address);
      server.emit('connection', socket as unknown as Socket);
      expect(socket.isDestroyed).toBe(!admitted.includes(socket));
      return socket.isDestroyed ? undefined : socket;
    },
  };
}

test('one address has its share, and the others the rest', () => {
  const { connect, turnedAway } = service(4, 2);
  const first = connect('192.0.2.1');
  expect(first).toBeDefined();
  expect(connect('192.0.2.1')).toBeDefined();
  expect(connect('192.0.2.1')).toBeUndefined();
  expect(connect('192.0.2.2')).toBeDefined();
  first!.destroy();
  expect(connect('192.0.2.1')).toBeDefined();
  expect(connect('192.0.2.1')).toBeUndefined();
  expect(connect('192.0.2.3')).toBeDefined();
  expect(connect('192.0.2.4')).toBeUndefined();
  expect(turnedAway()).toBe(3);
});

test('an IPv6 host has one share, whatever address of its network it takes', () => {
  const { connect } = service(10, 1);
  expect(connect('2001:db8::1')).toBeDefined();
  expect(connect('2001:db8::2:0:0:1')).toBeUndefined();
  expect(connect('2001:db8:0:1::1')).toBeDefined();
});

test('who is turned away for another reason takes no share', () => {
  let isOpen = false;
  const { connect } = service(2, 1, () => isOpen);
  expect(connect('192.0.2.1')).toBeUndefined();
  isOpen = true;
  expect(connect('192.0.2.1')).toBeDefined();
});

test('counts hold over any order of opening and closing', () => {
  const step = fc.oneof(
    fc.record({ open: fc.constantFrom('192.0.2.1', '192.0.2.2', '192.0.2.3', undefined) }),
    fc.record({ close: fc.nat(20) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.integer({ min: 1, max: 5 }), (steps, maxPerAddress) => {
      const max = 8;
      const { connect } = service(max, maxPerAddress);
      const open: FakeSocket[] = [];
      for (const one of steps) {
        if ('close' in one) {
          open.splice(one.close, 1)[0]?.destroy();
          continue;
        }
        const own = open.filter(({ remoteAddress }) => remoteAddress === one.open).length;
        const socket = connect(one.open);
        expect(socket !== undefined).toBe(open.length < max && own < maxPerAddress);
        if (socket !== undefined) open.push(socket);
      }
    }),
  );
});
