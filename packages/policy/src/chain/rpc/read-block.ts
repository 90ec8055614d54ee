import { type Block, type BlockTag, blockCall, blockFromAnswer } from './block.ts';
import { persist } from './persist.ts';
import type { RpcAnswer } from './rpc-answer.ts';
import type { RpcEndpoint } from './rpc-endpoint.ts';

/** A block that the endpoint should have. @throws PolicyError `backend-answer` when it has none in the end */
export async function readBlock(endpoint: RpcEndpoint, tag: BlockTag): Promise<Block> {
  const calls = [blockCall(tag)];
  const [answer] = await persist(
    await endpoint.gather(calls),
    () => endpoint.batch(calls, { fresh: true }),
    (answers) => answers.every(isThere),
  );
  return blockFromAnswer(answer);
}

const isThere = (answer: RpcAnswer): boolean => 'result' in answer && answer.result !== null;
