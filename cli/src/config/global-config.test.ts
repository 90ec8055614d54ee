import { describe, expect, test } from 'vitest';
import { parseGlobalConfig } from './global-config.ts';

const warningsOf = (rpc_url: string): string[] =>
  parseGlobalConfig(
    JSON.stringify({ chain: { rpc_url, kms_contract: `0x${'11'.repeat(20)}` } }),
    'config.json',
  ).warnings;

describe('chain.rpc_url', () => {
  test.each(['https://rpc.example.com/KEY', 'http://127.0.0.1:8545', 'http://localhost:8545'])(
    '%s',
    (url) => {
      expect(warningsOf(url)).toEqual([]);
    },
  );

  test.each(['http://rpc.example.com/KEY', 'http://node:8545/KEY'])(
    '%s is warned of, without its path',
    (url) => {
      const [warning = '', ...more] = warningsOf(url);
      expect(warning).toMatch(/^config\.json: chain\.rpc_url: .*plain HTTP/);
      expect(warning).not.toContain('KEY');
      expect(more).toEqual([]);
    },
  );
});
