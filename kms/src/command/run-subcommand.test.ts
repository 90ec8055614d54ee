import { afterEach, expect, test, vi } from 'vitest';
import { runSubcommand } from './run-subcommand.ts';

afterEach(() => vi.unstubAllEnvs());

test.each([[], ['check-config'], ['constructor'], ['--config', 'roots']])(
  'arguments that name no subcommand: %s',
  async (...args) => expect(await runSubcommand(args.flat())).toBe(false),
);

test.each(['', 'loud', 'DEBUG'])('LOG_LEVEL "%s" stops no subcommand', async (level) => {
  vi.stubEnv('LOG_LEVEL', level);
  await expect(runSubcommand(['roots', '--config', '/nowhere/kms.toml'])).rejects.toMatchObject({
    code: 'config-unreadable',
  });
});
