/** One container of the application, or the plain process that stands for it. */
export interface ContainerInfo {
  readonly id: string;
  /** As Docker writes them, with a leading slash. */
  readonly names: readonly string[];
  readonly image: string;
  readonly imageId: string;
  /** Unix seconds. */
  readonly created: number;
  readonly state: string;
  readonly status: string;
}

/** Which part of a log is wanted. */
export interface LogQuery {
  /** Unix seconds; 0 = unbounded. */
  readonly since: number;
  readonly until: number;
  readonly follow: boolean;
  readonly timestamps: boolean;
  /** Number of lines, or `all`. */
  readonly tail: string;
}

/** A piece of output. */
export interface LogChunk {
  readonly channel: 'stdin' | 'stdout' | 'stderr' | 'console';
  readonly bytes: Uint8Array;
}

/** Reads one log. @throws Error with the text of what keeps it */
export type ReadLog = (query: LogQuery, signal: AbortSignal) => AsyncIterable<LogChunk>;

/** The application's containers: those of the engine, or the runner's processes when there is no engine. */
export interface Containers {
  /** @throws Error when neither can be reached */
  list(): Promise<readonly ContainerInfo[]>;
  /** @throws Error with the engine's text */
  logs(name: string, query: LogQuery, signal: AbortSignal): AsyncIterable<LogChunk>;
}

/** Names that are passed on to an engine; anything else could leave the path of the request. */
export const CONTAINER_NAME: RegExp = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,254}$/;
