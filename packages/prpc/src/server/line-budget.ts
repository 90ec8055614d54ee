/** Bounds of a log. */
export const LINE_LIMITS = {
  /** What is held back in a window is told at its end. */
  windowMs: 10_000,
  /** Lines of one message in a window, and of them those that one source causes. */
  lines: 50,
  linesOfSource: 5,
} as const;
/** Sources and reasons told apart in a window; those beyond are counted together. */
const MAX_KINDS = 256;
/** Kinds that a summary names. */
const MOST = 3;
const MAX_TEXT = 512;
/** Pino's number of `warn`. */
const WARN = 40;

/** What was not written of one message. */
export type HeldBack = {
  readonly message: string;
  readonly lines: number;
  readonly sources: number;
  /** The kinds that came most often. */
  readonly most: readonly { readonly source: string; readonly reason: string; readonly lines: number }[];
};

type Kind = { readonly source: string; readonly reason: string; isWritten: boolean; held: number };
type Told = { written: number; readonly bySource: Map<string, number>; readonly kinds: Map<string, Kind> };

/**
 * Bounds what strangers can have written to a log. In ten seconds a message is written fifty times at most, five of them
 * for one source, and once for one reason of that source; the others are counted, and told in one line at the end.
 */
export class LineBudget {
  readonly #tell: (heldBack: HeldBack) => void;
  readonly #told = new Map<string, Told>();
  #timer: NodeJS.Timeout | undefined;

  constructor(tell: (heldBack: HeldBack) => void) {
    this.#tell = tell;
  }

  /** Whether a line is to be written; otherwise it is counted. @param source who caused it; empty for nobody in particular */
  takes(message: string, source: string, reason: string): boolean {
    const told = this.#of(message);
    const kind = kindOf(told, source, reason.slice(0, MAX_TEXT));
    const ofSource = told.bySource.get(source) ?? 0;
    const hasHad = source !== '' && (kind.isWritten || ofSource >= LINE_LIMITS.linesOfSource);
    if (hasHad || told.written >= LINE_LIMITS.lines) {
      kind.held += 1;
      return false;
    }
    told.written += 1;
    told.bySource.set(source, ofSource + 1);
    kind.isWritten = true;
    return true;
  }

  /** Tells what was held back, and begins a new window. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const [message, { kinds }] of this.#told) {
      const held = [...kinds.values()]
        .filter((kind) => kind.held > 0)
        .sort((one, other) => other.held - one.held);
      if (held.length === 0) continue;
      this.#tell({
        message,
        lines: held.reduce((sum, kind) => sum + kind.held, 0),
        sources: new Set(held.map(({ source }) => source)).size,
        most: held.slice(0, MOST).map(({ source, reason, held: lines }) => ({ source, reason, lines })),
      });
    }
    this.#told.clear();
  }

  #of(message: string): Told {
    const known = this.#told.get(message);
    if (known !== undefined) return known;
    const told: Told = { written: 0, bySource: new Map(), kinds: new Map() };
    this.#told.set(message, told);
    if (this.#timer === undefined) {
      this.#timer = setTimeout(() => this.flush(), LINE_LIMITS.windowMs);
      this.#timer.unref();
    }
    return told;
  }
}

function kindOf({ kinds }: Told, source: string, reason: string): Kind {
  const name = kinds.size < MAX_KINDS ? `${source}\n${reason}` : '';
  const known = kinds.get(`${source}\n${reason}`) ?? kinds.get(name);
  if (known !== undefined) return known;
  const kind = name === '' ? { source: 'others', reason: '' } : { source, reason };
  const counted = { ...kind, isWritten: false, held: 0 };
  kinds.set(name, counted);
  return counted;
}

type LogMethod = (...input: never[]) => void;
type Fields = { readonly source?: unknown; readonly error?: unknown; readonly reason?: unknown };

/** Hooks for pino: lines of `warn` and above have a budget, by their message and their fields `source`, `error`, `reason`. */
export function boundedLines(): {
  readonly hooks: { logMethod(this: unknown, input: unknown[], method: LogMethod, level: number): void };
  /** Writes what was held back, at the end of a process. */
  flush(): void;
} {
  let write: ((fields: object, message: string) => void) | undefined;
  const budget = new LineBudget(({ message, ...heldBack }) =>
    write?.({ ...heldBack, held_back: message }, 'log lines held back'),
  );
  return {
    hooks: {
      logMethod(input, method, level) {
        if (level >= WARN) {
          const [first, second] = input;
          const {
            source = '',
            error,
            reason,
          } = typeof first === 'object' && first !== null ? (first as Fields) : {};
          write = (...line) => method.apply(this, line as unknown[] as never[]);
          const message = typeof first === 'string' ? first : String(second ?? '');
          if (!budget.takes(message, String(source), String(error ?? reason ?? ''))) return;
        }
        method.apply(this, input as never[]);
      },
    },
    flush: () => budget.flush(),
  };
}
