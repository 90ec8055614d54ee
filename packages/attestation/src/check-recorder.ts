import { AttestationError, type AttestationErrorCode } from './errors.ts';

/** One thing that was checked while evidence was verified. */
export interface Check {
  /** Stable name, `area.what`, e.g. `tdx.quote-signature`. */
  readonly id: string;
  readonly ok: boolean;
  readonly expected?: string;
  readonly found?: string;
  /** Where the rule comes from: section of docs/protocol, RFC, Intel, TCG or AWS document. */
  readonly reference: string;
}

/** What `CheckRecorder.require` needs to know about a check. */
export interface CheckRule {
  readonly id: string;
  readonly reference: string;
  /** Reason reported when the check fails. */
  readonly code: AttestationErrorCode;
  /** Sentence for a person, when the check fails. */
  readonly message: string;
  /** As text, or a function that is called only when the check fails. */
  readonly expected?: string | (() => string) | undefined;
  readonly found?: string | (() => string) | undefined;
}

/** The ordered list of checks of one verification. A failing check is recorded, then thrown. */
export class CheckRecorder {
  readonly #checks: Check[] = [];

  /** All checks so far, in order. */
  get checks(): readonly Check[] {
    return this.#checks;
  }

  /** Records a check that was made elsewhere and passed (for instance one whose result was cached). */
  pass(id: string, reference: string, found?: string): void {
    this.#checks.push(found === undefined ? { id, ok: true, reference } : { id, ok: true, found, reference });
  }

  /**
   * Records one check.
   * @throws AttestationError with the rule's code when `ok` is false.
   */
  require(ok: boolean, rule: CheckRule): void {
    if (ok) {
      this.#checks.push(toCheck(true, rule, eager(rule.expected), eager(rule.found)));
      return;
    }
    const expected = text(rule.expected);
    const found = text(rule.found);
    this.#checks.push(toCheck(false, rule, expected, found));
    throw new AttestationError(rule.code, rule.message, { check: rule.id, expected, found });
  }

  /** Takes over the checks of a part, e.g. of a cached result. */
  append(checks: readonly Check[]): void {
    this.#checks.push(...checks);
  }

  /**
   * Runs a step made of code that knows no recorder (parsers, path validation): its success is one passed
   * check, its AttestationError one failed check, thrown again with the check's name.
   */
  async step<T>(id: string, reference: string, run: () => T | Promise<T>): Promise<T> {
    const value = await this.attempt(id, reference, run);
    this.pass(id, reference);
    return value;
  }

  /** As `step`, for the beginning of a check that `require` ends: only its failure is recorded. */
  async attempt<T>(id: string, reference: string, run: () => T | Promise<T>): Promise<T> {
    try {
      return await run();
    } catch (error) {
      if (!(error instanceof AttestationError)) throw error;
      const found = error.found ?? error.message;
      this.#checks.push(
        error.expected === undefined
          ? { id, ok: false, found, reference }
          : { id, ok: false, expected: error.expected, found, reference },
      );
      throw new AttestationError(error.code, error.message, {
        check: id,
        expected: error.expected,
        found,
        cause: error,
      });
    }
  }
}

type Text = string | (() => string) | undefined;

function text(value: Text): string | undefined {
  return typeof value === 'function' ? value() : value;
}

function eager(value: Text): string | undefined {
  return typeof value === 'function' ? undefined : value;
}

function toCheck(
  ok: boolean,
  { id, reference }: CheckRule,
  expected: string | undefined,
  found: string | undefined,
): Check {
  return {
    id,
    ok,
    ...(expected === undefined ? {} : { expected }),
    ...(found === undefined ? {} : { found }),
    reference,
  };
}
