import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { keepRegistered } from './keep-registered.ts';
import type { TunnelPlan } from './tunnel-plan.ts';

const PLAN: TunnelPlan = { clientIp: '10.4.0.33', servers: [] };

describe('keeping a machine registered', () => {
  it('asks the gateways in turn, and again every three minutes where one answered', async () => {
    const lab = machine({ urls: ['a', 'b', 'c'], answers: (url) => url !== 'a', handshakeAge: () => 5 });
    await lab.run(400);
    expect(lab.asked).toEqual(['0 a', '0 b', '180 b', '360 b']);
    expect(lab.applied).toEqual(['0 kept', '180 kept', '360 kept']);
    expect(lab.told).toEqual([]);
  });

  it('goes on without a route, later and later, and tells the host once', async () => {
    const lab = machine({ urls: ['a'], answers: () => false });
    await lab.run(500);
    expect(lab.asked).toEqual(['0 a', '30 a', '90 a', '210 a', '330 a', '450 a']);
    expect(lab.told).toEqual(['boot.error no route by a gateway yet: a: no tunnel']);
  });

  it('makes the tunnel anew at the next gateway when no handshake came for three minutes', async () => {
    const lab = machine({
      urls: ['a', 'b'],
      answers: () => true,
      handshakeAge: (now) => Math.max(5, now - 100),
    });
    await lab.run(400);
    // Handshakes ended at 100.
    expect(lab.asked).toEqual(['0 a', '180 a', '280 b']);
    expect(lab.applied).toEqual(['0 kept', '180 kept', '280 renewed']);
  });

  it('makes a tunnel anew that never had a handshake, but not all the time', async () => {
    const lab = machine({
      urls: ['a', 'b'],
      answers: () => true,
      handshakeAge: () => Number.POSITIVE_INFINITY,
    });
    await lab.run(700);
    expect(lab.applied.filter((entry) => entry.endsWith('renewed'))).toEqual([
      '180 renewed',
      '360 renewed',
      '540 renewed',
    ]);
    expect(lab.asked).toEqual(['0 a', '180 b', '360 a', '540 b']);
  });

  it('keeps the tunnel that it has when no gateway answers any more', async () => {
    let isUp = true;
    const lab = machine({ urls: ['a'], answers: () => isUp, handshakeAge: () => 5 });
    await lab.run(100);
    isUp = false;
    await lab.run(400);
    expect(lab.asked).toEqual(['0 a', '180 a', '210 a', '270 a', '390 a']);
    expect(lab.applied).toEqual(['0 kept']);
    expect(lab.told).toEqual([]);
  });
});

type Machine = {
  readonly urls: readonly string[];
  readonly answers: (url: string) => boolean;
  /** Seconds since the newest handshake. */
  readonly handshakeAge?: (now: number) => number;
};

function machine({ urls, answers, handshakeAge = () => 0 }: Machine) {
  const start = 1_700_000_000;
  let now = start;
  const [asked, applied, told]: string[][] = [[], [], []];
  let until = 0;
  let reached: () => void = () => undefined;
  let goOn: () => void = () => undefined;
  const stop = new AbortController();
  const seconds = (): number => Math.round(now - start);
  let isRunning = false;
  return {
    asked: asked!,
    applied: applied!,
    told: told!,
    /** Lets so many seconds since the start pass. */
    run: async (to: number): Promise<void> => {
      until = to;
      const done = new Promise<void>((resolve) => {
        reached = resolve;
      });
      goOn();
      if (!isRunning)
        void keepRegistered(
          {
            urls,
            register: async (url) => {
              asked!.push(`${seconds()} ${url}`);
              if (!answers(url)) throw new Error('no tunnel');
              return PLAN;
            },
            tunnel: {
              apply: async (_plan, renew) => void applied!.push(`${seconds()} ${renew ? 'renewed' : 'kept'}`),
              newestHandshake: async () => Math.max(0, now - handshakeAge(seconds())),
              close: async () => undefined,
            },
            notify: async (event, payload) => void told!.push(`${event} ${payload}`),
            log: pino({ level: 'silent' }),
            now: () => now,
            clock: () => now * 1000,
            random: () => 1,
            wait: async (ms) => {
              now += ms / 1000;
              if (seconds() <= until) return;
              reached();
              await new Promise<void>((resolve) => {
                goOn = resolve;
              });
            },
          },
          stop.signal,
        );
      isRunning = true;
      await done;
    },
  };
}
