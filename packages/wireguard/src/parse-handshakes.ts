/** Reads the output of `wg show <interface> latest-handshakes`. */
export function parseHandshakes(output: string): Map<string, number> {
  const found = new Map<string, number>();
  for (const line of output.split('\n')) {
    const [key, seconds] = line.split('\t');
    if (key && seconds && /^\d+$/.test(seconds)) found.set(key, Number(seconds));
  }
  return found;
}
