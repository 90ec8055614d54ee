import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fromHex } from './hex.ts';
import { encodeMsgpack } from './msgpack.ts';
import { MsgpackView } from './msgpack-view.ts';

const SHAPE = { maxDepth: 8, maxValues: 4096, maxKeys: 16 };
const view = (value: unknown) => MsgpackView.of(encodeMsgpack(value), SHAPE);

/** Builds what the view shows, to compare it with what was written. */
function built(value: MsgpackView): unknown {
  if (value.kind === 'map')
    return Object.fromEntries([...value.members()].map(([name, member]) => [name, built(member)]));
  if (value.kind === 'array') return [...value.items()].map(built);
  if (value.kind === 'text') return value.text();
  if (value.kind === 'bytes') return value.bytes();
  return value.kind === 'integer' ? value.integer() : null;
}

describe('a view of MessagePack', () => {
  it('shows what was written', () => {
    // The encoder of the other side leaves out what objects do not count as their own.
    const name = fc.string().filter((text) => text !== '__proto__');
    const leaf = fc.oneof(
      fc.integer(),
      fc.integer({ min: -40_000, max: 70_000 }),
      fc.string({ unit: 'grapheme' }),
      fc.uint8Array(),
      fc.constant(null),
    );
    const { tree } = fc.letrec((tie) => ({
      tree: fc.oneof(
        { depthSize: 'small', maxDepth: 4 },
        leaf,
        fc.array(tie('tree'), { maxLength: 5 }),
        fc.dictionary(name, tie('tree'), { maxKeys: 5, noNullPrototype: true }),
      ),
    }));
    fc.assert(
      fc.property(tree, (value) => {
        expect(built(view(value))).toEqual(value);
      }),
    );
  });

  it.each<[string, number | undefined]>([
    ['7f', 127],
    ['e0', -32],
    ['d080', -128],
    ['d18000', -32_768],
    ['d280000000', -(2 ** 31)],
    ['d3fffffffffffffffe', -2],
    ['ccff', 255],
    ['cf001fffffffffffff', Number.MAX_SAFE_INTEGER],
    ['cf0020000000000000', undefined],
    ['d3ffdfffffffffffff', undefined],
    ['ca3f800000', undefined],
    ['a131', undefined],
  ])('integer %s', (hex, value) => {
    expect(MsgpackView.of(fromHex(hex), SHAPE).integer()).toBe(value);
  });

  it('gives nothing for what it is not', () => {
    expect(() => view('text').bytes()).toThrow('text where bytes is expected');
    expect(() => view([1]).members()).toThrow('array where map is expected');
    expect(() => view({ a: 1 }).text()).toThrow('map where text is expected');
    expect(() => [...view(1).items()]).toThrow('integer where array is expected');
    expect(() => MsgpackView.of(fromHex('810102'), SHAPE).members()).toThrow(
      'integer where text is expected',
    );
    expect(() => MsgpackView.of(fromHex('a1ff'), SHAPE).text()).toThrow(/UTF-8/);
    expect(() => MsgpackView.of(fromHex('0000'), SHAPE)).toThrow('followed by 1 bytes');
    expect(() => MsgpackView.of(fromHex('92'), SHAPE)).toThrow('Expected 1 more bytes');
  });
});
