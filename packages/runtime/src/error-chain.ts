/** Longest chain of causes that {@link errorChain} follows. */
const MAX_CAUSES = 16;

/** The messages of an error and its causes, outermost first, joined with `: `. */
export function errorChain(error: unknown): string {
  const texts: string[] = [];
  let current = error;
  for (let depth = 0; depth < MAX_CAUSES && current !== undefined && current !== null; depth += 1) {
    const text = current instanceof Error ? current.message : String(current);
    // A wrapper that already repeats its cause's text must not say it twice.
    if (text !== '' && !texts.some((earlier) => earlier.includes(text))) texts.push(text);
    current = current instanceof Error ? current.cause : undefined;
  }
  return texts.length > 0 ? texts.join(': ') : String(error);
}
