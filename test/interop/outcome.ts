/** What a client's test runner said of one test. */
export interface Outcome {
  readonly name: string;
  readonly state: 'passed' | 'failed' | 'skipped';
  /** Why it was skipped. */
  readonly reason?: string;
}

/** Tests of one client; a client that cannot run at all is one skipped test that names the reason. */
export interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

/** Reads TAP 13 and 14, also nested (node --test, our Python runner); suites are not counted. */
export function readTap(output: string): Outcome[] {
  const lines = output.split('\n');
  const outcomes: Outcome[] = [];
  for (const [index, line] of lines.entries()) {
    const found = /^ *(not )?ok \d+ - (.*?)(?: # (?:SKIP|skip)\s*(.*))?$/.exec(line);
    if (found === null) continue;
    // node --test closes a suite with a line of its own, whose diagnostics say so.
    const diagnostics = lines.slice(index + 1, index + 6).join('\n');
    if (/^\s*---\n(?:.*\n)?\s*(?:duration_ms.*\n\s*)?type: 'suite'/.test(diagnostics)) continue;
    const [, not, name = '', reason] = found;
    if (reason !== undefined) outcomes.push({ name, state: 'skipped', reason });
    else outcomes.push({ name, state: not === undefined ? 'passed' : 'failed' });
  }
  return outcomes;
}

/** Reads what `cargo test` prints. */
export function readCargo(output: string): Outcome[] {
  return [...output.matchAll(/^test (\S+) \.\.\. (ok|FAILED|ignored)/gm)].map(([, name = '', word]) =>
    word === 'ignored'
      ? { name, state: 'skipped', reason: 'ignored' }
      : { name, state: word === 'ok' ? 'passed' : 'failed' },
  );
}

/** Reads what `go test -v` prints; subtests are counted with their test. */
export function readGo(output: string): Outcome[] {
  const words = { PASS: 'passed', FAIL: 'failed', SKIP: 'skipped' } as const;
  return [...output.matchAll(/^--- (PASS|FAIL|SKIP): (\S+)/gm)].map(([, word, name = '']) => {
    const state = words[word as keyof typeof words];
    return state === 'skipped' ? { name, state, reason: 'skipped by the test' } : { name, state };
  });
}

export function count(outcomes: readonly Outcome[]): Counts {
  const counts: Counts = { passed: 0, failed: 0, skipped: 0 };
  for (const { state } of outcomes) counts[state]++;
  return counts;
}
