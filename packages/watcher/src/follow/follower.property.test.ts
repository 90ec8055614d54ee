/** Whatever the chain and its endpoints do: each event is told once, and what is known in the end is what the chain has. */
import * as fc from 'fast-check';
import type { Hex } from 'viem';
import { afterEach, expect, test } from 'vitest';
import { FakeChain, type FakeNode, type FakeTransaction, startFakeNode } from '../test/fake-node.ts';
import { followerLab } from '../test/follower-lab.ts';

let nodes: FakeNode[] = [];
afterEach(async () => {
  await Promise.all(nodes.map((node) => node.close()));
  nodes = [];
});

type Step =
  | { readonly do: 'mine'; readonly blocks: number; readonly images: number }
  | { readonly do: 'fork'; readonly depth: number; readonly back: number; readonly later: number }
  | { readonly do: 'mood'; readonly mood: 'error' | 'garbage' | 'behind' }
  | { readonly do: 'well' }
  | { readonly do: 'pass' };

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    do: fc.constant('mine' as const),
    blocks: fc.integer({ min: 1, max: 90 }),
    images: fc.integer({ min: 0, max: 4 }),
  }),
  fc.record({
    do: fc.constant('fork' as const),
    depth: fc.integer({ min: 1, max: 12 }),
    back: fc.integer({ min: 0, max: 4 }),
    later: fc.integer({ min: 0, max: 2 }),
  }),
  fc.record({
    do: fc.constant('mood' as const),
    mood: fc.constantFrom('error' as const, 'garbage' as const, 'behind' as const),
  }),
  fc.constant({ do: 'well' } as const),
  fc.constant({ do: 'pass' } as const),
  fc.constant({ do: 'pass' } as const),
);

test('reorganisations, outages and an endpoint that lags: nothing is missing and nothing is told twice', async () => {
  let images = 0;
  const image = (): FakeTransaction => {
    images += 1;
    return { image: `0x${images.toString(16).padStart(64, '0')}` };
  };
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 14 }), async (steps) => {
      const chain = new FakeChain(10);
      chain.mine(image());
      const node = await startFakeNode(chain);
      nodes.push(node);
      const lab = followerLab({ urls: [node.url], range: 40, timeoutMs: 1_000 });
      const pass = () => lab.follower.pass().catch(() => undefined);
      const well = (): void => {
        Object.assign(node, { mood: 'well', behind: 0 });
      };
      await lab.follower.pass();
      const before = new Set<Hex>(chain.images);
      for (const one of steps) {
        if (one.do === 'pass') await pass();
        else if (one.do === 'well') well();
        else if (one.do === 'mine') {
          for (let n = 0; n < one.blocks; n += 1) chain.mine(...(n < one.images ? [image()] : []));
        } else if (one.do === 'fork') {
          if (chain.blocks.length < 12) continue;
          const gone = chain.fork(Math.min(one.depth, chain.blocks.length - 11));
          for (let n = 0; n < one.later; n += 1) chain.mine();
          // Those that stay out come never again.
          chain.mine(...gone.slice(0, one.back));
          for (let n = 0; n < one.depth; n += 1) chain.mine();
        } else {
          well();
          if (one.mood === 'behind') node.behind = Math.min(3, chain.blocks.length - 11);
          else node.mood = one.mood;
        }
      }
      well();
      for (let n = 0; n < 70; n += 1) chain.mine();
      // An endpoint that failed rests, and is asked again.
      await expect
        .poll(async () => (await lab.follower.pass()).block, { timeout: 30_000 })
        .toBe(chain.head.number);
      const known = lab.follower.model.events.map(({ args }) => args['osImageHash']);
      const said = lab.store.state.outbox.flatMap(({ alert }) =>
        alert.rule === 'measurement-registered' ? [/0x[0-9a-f]{64}/.exec(alert.text)![0] as Hex] : [],
      );
      const withdrawn = lab.store.state.outbox.filter(({ alert }) => alert.rule === 'event-withdrawn').length;
      lab.close();
      expect(known).toEqual(chain.images);
      expect(new Set(said).size).toBe(said.length);
      const expected = chain.images.filter((one) => !before.has(one));
      expect(said.filter((one) => chain.images.includes(one)).sort()).toEqual([...expected].sort());
      expect(withdrawn).toBe(said.length - expected.length);
    }),
    { numRuns: 8 },
  );
}, 120_000);
