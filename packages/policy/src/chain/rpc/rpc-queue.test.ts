import { expect, test } from 'vitest';
import { PolicyError } from '../../errors.ts';
import type { RpcAnswer, RpcCall } from './rpc-answer.ts';
import { RpcQueue } from './rpc-queue.ts';

const call = (name: string, bytes = 0): RpcCall => ({ method: name, params: ['x'.repeat(bytes)] });
const answerOf = ({ method }: RpcCall): RpcAnswer => ({ result: method });

/** A queue before an endpoint that echoes methods, or fails as told. */
function queued(fail: (calls: readonly RpcCall[]) => Error | undefined = () => undefined): {
  queue: RpcQueue;
  sent: string[][];
} {
  const sent: string[][] = [];
  const queue = new RpcQueue(async (calls) => {
    sent.push(calls.map(({ method }) => method));
    const error = fail(calls);
    if (error) throw error;
    return calls.map(answerOf);
  });
  return { queue, sent };
}

test('calls of one tick share an exchange, and each asker gets its own answers', async () => {
  const { queue, sent } = queued();
  const answers = await Promise.all([
    queue.gather([call('a'), call('b')]),
    queue.gather([]),
    Promise.resolve().then(() => queue.gather([call('c')])),
  ]);
  expect(answers).toEqual([[{ result: 'a' }, { result: 'b' }], [], [{ result: 'c' }]]);
  expect(sent).toEqual([['a', 'b', 'c']]);
  await queue.gather([call('d')]);
  expect(sent).toHaveLength(2);
});

test('exchanges are bounded by calls and by bytes, also those of one asker', async () => {
  const { queue, sent } = queued();
  const names = Array.from({ length: 350 }, (_, index) => `m${index}`);
  const many = queue.gather(names.map((name) => call(name)));
  const large = queue.gather(Array.from({ length: 6 }, (_, index) => call(`l${index}`, 200_000)));
  expect((await many).map((answer) => ('result' in answer ? answer.result : undefined))).toEqual(names);
  expect(await large).toHaveLength(6);
  for (const methods of sent) expect(methods.length).toBeLessThanOrEqual(100);
  expect(sent.filter((methods) => methods.some((name) => name.startsWith('l')))).toHaveLength(3);
});

test('an answer that is too long harms only whose it was', async () => {
  const { queue, sent } = queued((calls) =>
    calls.some(({ method }) => method === 'hostile')
      ? new PolicyError('backend-answer', 'answer longer than 1048576 bytes')
      : undefined,
  );
  const [good, hostile, other] = await Promise.allSettled([
    queue.gather([call('good')]),
    queue.gather([call('hostile')]),
    queue.gather([call('other')]),
  ]);
  expect(good).toMatchObject({ value: [{ result: 'good' }] });
  expect(hostile).toMatchObject({ reason: { code: 'backend-answer' } });
  expect(other).toMatchObject({ value: [{ result: 'other' }] });
  expect(sent).toHaveLength(4);
});

test('an endpoint that cannot be reached is not asked again for each', async () => {
  const { queue, sent } = queued(() => new PolicyError('backend-timeout', 'no answer'));
  const results = await Promise.allSettled([queue.gather([call('a')]), queue.gather([call('b')])]);
  expect(results.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  expect(sent).toHaveLength(1);
});
