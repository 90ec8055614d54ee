import type { Entry, StateStore } from './state-store.ts';

const RETRY_MS = 1_000;

export type RecordsFollower = {
  /** All that is there, as of one revision; what was known beside it is gone. */
  readonly onAll: (entries: readonly Entry[], revision: number) => void;
  /** One record at a revision; undefined when it is gone. */
  readonly onOne: (key: string, entry: Entry | undefined, revision: number) => void;
  readonly onError: (error: Error) => void;
};

/** Follows the records below a prefix, over every loss of the store: what was known last stays until then. @returns ends it */
export async function watchRecords(
  store: StateStore,
  prefix: string,
  { onAll, onOne, onError }: RecordsFollower,
): Promise<() => void> {
  let isOver = false;
  let stop: () => void = () => undefined;
  let timer: NodeJS.Timeout | undefined;
  const begin = async (): Promise<void> => {
    const { entries, revision } = await store.list(prefix);
    if (isOver) return;
    onAll(entries, revision);
    stop = store.watch(
      prefix,
      revision,
      ({ key, value, revision: at }) =>
        onOne(key, value === undefined ? undefined : { key, value, revision: at }, at),
      again,
    );
  };
  const again = (): void => {
    stop();
    if (isOver) return;
    begin().catch((error: Error) => {
      onError(error);
      timer = setTimeout(again, RETRY_MS);
    });
  };
  await begin();
  return () => {
    isOver = true;
    clearTimeout(timer);
    stop();
  };
}
