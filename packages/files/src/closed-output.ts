/**
 * Lets a program live on when the reader of its output goes away (`| head`): what it still writes goes nowhere. Otherwise
 * Node ends the process at that write, with a stack trace.
 *
 * @param closed told once, for a program that has nothing to do but to write
 */
export function surviveClosedOutput(closed: () => void = () => undefined): void {
  let isClosed = false;
  const onError = (error: NodeJS.ErrnoException): void => {
    if (error.code !== 'EPIPE' && error.code !== 'ERR_STREAM_DESTROYED') throw error;
    if (!isClosed) closed();
    isClosed = true;
  };
  process.stdout.on('error', onError);
  process.stderr.on('error', onError);
}
