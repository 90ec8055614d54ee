interface Stoppable {
  close(): Promise<void>;
}

/**
 * Prints the ready line, then waits for SIGTERM or SIGINT, or for the end of standard input when the parent asked for
 * that (a parent that dies closes its end of the pipe), and closes.
 */
export async function runUntilStopped(
  service: Stoppable,
  ready: Record<string, unknown>,
  exitWithStdin: boolean,
): Promise<void> {
  const stopped = new Promise<void>((resolve) => {
    process.once('SIGTERM', () => resolve());
    process.once('SIGINT', () => resolve());
    if (!exitWithStdin) return;
    process.stdin.once('end', () => resolve());
    process.stdin.once('error', () => resolve());
    process.stdin.resume();
  });
  process.stdout.write(`${JSON.stringify({ ready: true, simulated: true, ...ready })}\n`);
  await stopped;
  process.stdin.destroy();
  await service.close();
}
