import { defineConfig } from 'vitest/config';

// Both condition lists are needed: with the first alone vitest looks for dist and fails.
const conditions = ['@dstack/source', 'node', 'import', 'default'];

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    include: ['{packages,kms,cli,contracts,scripts,test}/**/*.test.ts'],
    exclude: ['**/node_modules/**', '**/dist/**'],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    pool: 'forks',
    coverage: { include: ['packages/*/src/**', 'kms/src/**', 'cli/src/**', 'contracts/src/**'] },
  },
});
