import type { Port } from './link.ts';

/** Two ends of a channel in one process, for tests: JSON in order, each message in a turn of its own, until it is cut. */
export function portPair(): { readonly ends: readonly [Port, Port]; cut(): void } {
  const messages: ((message: unknown) => void)[][] = [[], []];
  const closes: (() => void)[] = [];
  let isCut = false;
  const end = (own: 0 | 1): Port => ({
    send(message) {
      const text = JSON.stringify(message);
      setImmediate(() => {
        if (!isCut) for (const listener of messages[1 - own]!) listener(JSON.parse(text));
      });
    },
    onMessage: (listener) => messages[own]!.push(listener),
    onClose: (listener) => closes.push(listener),
  });
  return {
    ends: [end(0), end(1)],
    cut() {
      isCut = true;
      for (const listener of closes) listener();
    },
  };
}
