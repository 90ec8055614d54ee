import { CliError, messageOf } from '../errors.ts';

/** One thing that a deploy needs. */
export interface Finding {
  readonly name: string;
  readonly state: 'ok' | 'bad' | 'open';
  readonly found: string;
  readonly hint?: string | undefined;
}

/** Looks at one thing after the other, and goes on after what is wrong. */
export class Examination {
  readonly findings: Finding[] = [];
  readonly #explain: (name: string, error: unknown) => unknown;

  /** @param explain an error of a cloud in words */
  constructor(explain: (name: string, error: unknown) => unknown = (_, error) => error) {
    this.#explain = explain;
  }

  /**
   * @param work says what was found, or throws what is wrong
   * @returns whether it was found right
   */
  readonly look = async (name: string, work: () => Promise<string>): Promise<boolean> => {
    try {
      this.findings.push({ name, state: 'ok', found: await work() });
      return true;
    } catch (error) {
      const why = this.#explain(name, error);
      const hint = why instanceof CliError ? why.hint : undefined;
      this.findings.push({ name, state: 'bad', found: messageOf(why), hint });
      return false;
    }
  };

  /** What was not looked at, and why. */
  readonly open = (name: string, found: string): void => {
    this.findings.push({ name, state: 'open', found });
  };
}
