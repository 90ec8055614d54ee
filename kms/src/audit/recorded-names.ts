const MAX_BYTES = 8 * 1024;

/** Names of a certificate for its record, which is bounded: beyond that, how many more there are. */
export function recordedNames(names: readonly string[]): string[] {
  const recorded: string[] = [];
  let bytes = 0;
  for (const [index, name] of names.entries()) {
    bytes += Buffer.byteLength(JSON.stringify(name)) + 1;
    if (bytes > MAX_BYTES) return [...recorded, `and ${names.length - index} more`];
    recorded.push(name);
  }
  return recorded;
}
