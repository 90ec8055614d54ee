/** Length of the pieces that a line and a secret are compared by: part of a secret is withheld like the whole. */
const PIECE = 6;
const MAX_LINE = 4096;
const WITHHELD = '(a line is withheld: it may contain a secret of the application)';
/** What looks like a key: hex of 16 bytes, base64 of 24, a PEM header. Digests of images are public. */
const KEY_LIKE = /[0-9a-f]{32,}|[a-z0-9+/_-]{32,}|-----begin /i;
const PUBLIC_DIGEST = /\bsha256:[0-9a-f]{64}\b/g;

/** Replaces each line that may contain a secret. */
export type WithholdSecrets = (line: string) => string;

/**
 * A filter for what a program prints that has the secrets in its environment. It withholds whole lines: a line with the
 * secret cut out would say where the secret stands, and for a short one what it is. A line goes when it has six letters
 * or digits in a row in common with a secret, whatever stands between them (quotes, escapes), or all of a shorter one;
 * the same for the secret in hex, base64 and URL form; and when it has anything that looks like a key.
 *
 * Short secrets (`1`, `true`) are in many lines; they count only where `composeText` lets compose print them.
 */
export function withholdSecrets(
  secrets: Readonly<Record<string, string>>,
  composeText: string,
): WithholdSecrets {
  const pieces = new Set<string>();
  const short = new Set<string>();
  const interpolated = interpolatedNames(composeText);
  for (const [name, value] of Object.entries(secrets)) {
    for (const text of forms(value).flatMap((form) => [form, squeezed(form)])) {
      if (text.length >= PIECE) for (const piece of piecesOf(text)) pieces.add(piece);
      else if (text !== '' && (interpolated === 'any' || interpolated.has(name))) short.add(text);
    }
  }
  const tells = (line: string): boolean => {
    if (line.length > MAX_LINE || KEY_LIKE.test(line.replace(PUBLIC_DIGEST, ''))) return true;
    return [line.toLowerCase(), squeezed(line)].some(
      (text) => piecesOf(text).some((piece) => pieces.has(piece)) || [...short].some((s) => text.includes(s)),
    );
  };
  return (line) => (tells(line) ? WITHHELD : line);
}

/** A stream of bytes as whole lines through a filter; `end` gives what stood after the last line feed. */
export class FilteredLines {
  readonly #filter: WithholdSecrets;
  readonly #take: (line: string) => void;
  readonly #decoder = new TextDecoder();
  #rest = '';

  constructor(filter: WithholdSecrets, take: (line: string) => void) {
    this.#filter = filter;
    this.#take = take;
  }

  write(bytes: Uint8Array): void {
    const lines = (this.#rest + this.#decoder.decode(bytes, { stream: true })).split(/[\r\n]/);
    this.#rest = lines.pop() ?? '';
    // What is beyond the longest line is withheld anyway; the line does not grow in memory.
    if (this.#rest.length > MAX_LINE) this.#rest = this.#rest.slice(0, MAX_LINE + 1);
    for (const line of lines) this.#line(line);
  }

  end(): void {
    this.#line(this.#rest);
    this.#rest = '';
  }

  #line(line: string): void {
    if (line.trim() !== '') this.#take(this.#filter(line));
  }
}

/** The variables that compose puts into what it reads; any where it reads further files. */
function interpolatedNames(composeText: string): ReadonlySet<string> | 'any' {
  if (/\b(include|extends)\b/.test(composeText)) return 'any';
  return new Set(
    [...composeText.matchAll(/\$\{?([A-Za-z_][A-Za-z0-9_]*)/g)].map(([, name]) => name as string),
  );
}

/** A secret in the forms in which a program may repeat it. */
function forms(secret: string): readonly string[] {
  const bytes = Buffer.from(secret, 'utf8');
  const encoded = [
    bytes.toString('hex'),
    bytes.toString('base64'),
    encodeURIComponent(bytes.toString('utf8')),
  ];
  return secret.trim() === ''
    ? []
    : [...secret.split(/[\r\n]+/), ...encoded].map((text) => text.trim().toLowerCase());
}

/** Only the letters and digits. */
function squeezed(text: string): string {
  return text.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, '');
}

function piecesOf(text: string): readonly string[] {
  const count = Math.max(0, text.length - PIECE + 1);
  return Array.from({ length: count }, (_, at) => text.slice(at, at + PIECE));
}
