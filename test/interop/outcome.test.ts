import { describe, expect, it } from 'vitest';
import { count, readCargo, readGo, readTap } from './outcome.ts';

describe('what the test runners of other languages print', () => {
  it('TAP of node --test: suites are not counted, skipped tests have a reason', () => {
    const output = `TAP version 13
# Subtest: keys
    # Subtest: one: with a colon
    ok 1 - one: with a colon
      ---
      duration_ms: 1.5
      type: 'test'
      ...
    # Subtest: two
    not ok 2 - two
      ---
      duration_ms: 1
      type: 'test'
      ...
    ok 3 - three # SKIP this version has no x
      ---
      duration_ms: 0
      type: 'test'
      ...
    1..3
not ok 1 - keys
  ---
  duration_ms: 3
  type: 'suite'
  ...
`;
    expect(readTap(output)).toEqual([
      { name: 'one: with a colon', state: 'passed' },
      { name: 'two', state: 'failed' },
      { name: 'three', state: 'skipped', reason: 'this version has no x' },
    ]);
  });

  it('TAP without diagnostics', () => {
    expect(count(readTap('TAP version 13\nok 1 - A a\nnot ok 2 - A b\n  # Error\n'))).toEqual({
      passed: 1,
      failed: 1,
      skipped: 0,
    });
  });

  it('cargo test and go test', () => {
    expect(
      count(readCargo('running 3 tests\ntest a::b ... ok\ntest c ... FAILED\ntest d ... ignored\n')),
    ).toEqual({ passed: 1, failed: 1, skipped: 1 });
    expect(
      count(
        readGo(
          '=== RUN   TestA\n--- PASS: TestA (0.01s)\n    --- PASS: TestA/x (0.00s)\n--- FAIL: TestB (0s)\n',
        ),
      ),
    ).toEqual({
      passed: 1,
      failed: 1,
      skipped: 0,
    });
  });
});
