import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Connection } from './connection.ts';
import { CONNECTION_LIMITS, type ConnectionLimits } from './connection-limits.ts';
import { ConnectionTable } from './connection-table.ts';

/** A connection as a server sees it. */
class FakeSocket extends EventEmitter {
  readonly remoteAddress: string | undefined;
  bytesRead = 0;
  destroyed = false;

  constructor(remoteAddress: string | undefined) {
    super();
    this.remoteAddress = remoteAddress;
  }

  destroy(): void {
    if (this.destroyed) return;
    this.destroyed = true;
    this.emit('close');
  }
}

type Guest = { readonly socket: FakeSocket; readonly connection: Connection };

function door(limits: Partial<ConnectionLimits>) {
  const events: string[] = [];
  const table = new ConnectionTable({
    ...CONNECTION_LIMITS,
    ...limits,
    onTurnedAway: (why) => events.push(why),
    onCut: (why, address) => events.push(`${why} ${address}`),
  });
  return {
    table,
    events,
    connect(address: string | undefined, isLocal = false): Guest | undefined {
      const socket = new FakeSocket(address);
      const connection = table.admit(socket as unknown as Socket, isLocal);
      expect(socket.destroyed).toBe(connection === undefined);
      return connection && { socket, connection };
    },
  };
}

test('one network has its share, and the others the rest', () => {
  const { connect, events } = door({ max: 4, maxPerNetwork: 2 });
  const first = connect('192.0.2.1');
  expect(connect('192.0.2.1')).toBeDefined();
  expect(connect('192.0.2.1')).toBeUndefined();
  expect(connect('192.0.2.2')).toBeDefined();
  first!.socket.destroy();
  expect(connect('192.0.2.1')).toBeDefined();
  expect(connect('192.0.2.1')).toBeUndefined();
  expect(connect('192.0.2.3')).toBeDefined();
  expect(events).toEqual(['share', 'share']);
});

test('an IPv6 host has one share, whatever address of its network it takes', () => {
  const { connect } = door({ maxPerNetwork: 1 });
  expect(connect('2001:db8::1')).toBeDefined();
  expect(connect('2001:db8::2:0:0:1')).toBeUndefined();
  expect(connect('2001:db8:0:1::1')).toBeDefined();
});

test('who says nothing has a smaller share, and gives it back by saying something', () => {
  const { table, connect } = door({ maxSilentPerNetwork: 1 });
  const guest = connect('192.0.2.1')!;
  expect(connect('192.0.2.1')).toBeUndefined();
  table.spoke(guest.connection);
  table.spoke(guest.connection);
  expect(connect('192.0.2.1')).toBeDefined();
  expect(connect('192.0.2.1')).toBeUndefined();
});

test('when all places are taken, the network that has most of them gives one up: its oldest that does nothing', () => {
  const { connect, events } = door({ max: 5, maxPerNetwork: 4 });
  const flood = [1, 2, 3, 4].map(() => connect('192.0.2.1')!);
  connect('192.0.2.2');
  expect(connect('192.0.2.3')).toBeDefined();
  expect(flood.map(({ socket }) => socket.destroyed)).toEqual([true, false, false, false]);
  expect(connect('192.0.2.2')).toBeDefined();
  // Two, two and one: nobody has two more than the one that asks.
  expect(connect('192.0.2.2')).toBeUndefined();
  expect(events).toEqual(['displaced 192.0.2.1', 'displaced 192.0.2.1', 'full']);
});

test('silent connections of many networks are displaced, the oldest first', () => {
  const { connect, events } = door({ maxSilent: 3 });
  for (const address of ['192.0.2.1', '192.0.2.1', '192.0.2.2']) connect(address);
  expect(connect('192.0.2.3')).toBeDefined();
  expect(events).toEqual(['displaced 192.0.2.1']);
  // Each has one: the oldest of them goes, since the one that asks has none.
  expect(connect('192.0.2.4')).toBeDefined();
  expect(events).toHaveLength(2);
});

test('who is turned away takes nothing', () => {
  let isOpen = false;
  const { connect } = door({ maxPerNetwork: 1, costBurst: 1, admits: () => isOpen });
  expect(connect('192.0.2.1')).toBeUndefined();
  isOpen = true;
  expect(connect('192.0.2.1')).toBeDefined();
});

test('connections cost, and a network that has spent all is turned away', () => {
  const { table, connect, events } = door({ costBurst: 4 });
  const guest = connect('192.0.2.1')!;
  expect(table.take(2, guest.connection)).toBe(true);
  expect(connect('192.0.2.1')).toBeDefined();
  expect(table.take(1, guest.connection)).toBe(false);
  expect(connect('192.0.2.1')).toBeUndefined();
  expect(connect('192.0.2.2')).toBeDefined();
  table.endWaiting('192.0.2.1');
  expect(guest.socket.destroyed).toBe(true);
  expect(events).toEqual(['rate', 'rate 192.0.2.1', 'rate 192.0.2.1']);
});

test('who pipelines is cut off with all connections of its network, and stays out', () => {
  const { table, connect } = door({});
  const [one, other, foreign] = ['192.0.2.1', '192.0.2.1', '192.0.2.2'].map((address) => connect(address)!);
  table.punish(one!.connection);
  expect([one, other, foreign].map((guest) => guest!.socket.destroyed)).toEqual([true, true, false]);
  expect(connect('192.0.2.1')).toBeUndefined();
  expect(connect('192.0.2.2')).toBeDefined();
});

test('certificates are held on credit: the oldest of the network with most goes', () => {
  const { table, connect, events } = door({ maxHeldBytes: 8_000 });
  const shows = (address: string, bytes: number): Guest => {
    const guest = connect(address)!;
    guest.socket.bytesRead = bytes;
    table.spoke(guest.connection);
    table.hold(guest.connection);
    return guest;
  };
  const [first, second] = [shows('192.0.2.1', 500), shows('192.0.2.1', 500)];
  table.release(first.connection);
  shows('192.0.2.1', 500);
  expect(events).toEqual([]);
  shows('192.0.2.1', 500);
  expect(second.socket.destroyed).toBe(true);
  expect(first.socket.destroyed).toBe(false);
  for (let network = 2; network < 10; network++) shows(`192.0.2.${network}`, 900);
  expect(events.length).toBeGreaterThan(1);
});

test('a Unix socket has no networks: only all places count', () => {
  const { table, connect } = door({ max: 3, maxPerNetwork: 1, costBurst: 1 });
  const guests = [1, 2, 3].map(() => connect(undefined, true)!);
  expect(table.take(100, guests[0]!.connection)).toBe(true);
  expect(connect(undefined, true)).toBeUndefined();
  guests[0]!.socket.destroy();
  expect(connect(undefined, true)).toBeDefined();
});

test('counts hold over any order of opening, speaking and closing', () => {
  const address = fc.constantFrom('192.0.2.1', '192.0.2.2', '192.0.2.3', undefined);
  const step = fc.oneof(
    fc.record({ open: address }),
    fc.record({ close: fc.nat(20) }),
    fc.record({ speak: fc.nat(20) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const limits = { max: 8, maxPerNetwork: 5, maxSilent: 6, maxSilentPerNetwork: 3, costBurst: 1e6 };
      const { table, connect } = door(limits);
      let open: Guest[] = [];
      for (const one of steps) {
        if ('open' in one) {
          const guest = connect(one.open);
          if (guest !== undefined) open.push(guest);
        } else if ('close' in one) open[one.close]?.socket.destroy();
        else if (open[one.speak] !== undefined) table.spoke(open[one.speak]!.connection);
        open = open.filter(({ socket }) => !socket.destroyed);
        expect(open.length).toBeLessThanOrEqual(limits.max);
        expect(open.filter(({ connection }) => connection.isSilent).length).toBeLessThanOrEqual(
          limits.maxSilent,
        );
        for (const own of ['192.0.2.1', '192.0.2.2', '192.0.2.3', undefined]) {
          const mine = open.filter(({ socket }) => socket.remoteAddress === own);
          expect(mine.length).toBeLessThanOrEqual(limits.maxPerNetwork);
          expect(mine.filter(({ connection }) => connection.isSilent).length).toBeLessThanOrEqual(
            limits.maxSilentPerNetwork,
          );
        }
      }
      // Nothing is counted that is not there: when all are gone, there is room for all again.
      for (const { socket } of open) socket.destroy();
      for (let index = 0; index < limits.max; index++) {
        const guest = connect(`192.0.2.${10 + index}`);
        expect(guest).toBeDefined();
        table.spoke(guest!.connection);
      }
    }),
  );
});
