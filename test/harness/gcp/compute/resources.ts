/** What the emulated Compute Engine keeps of its resources. */
export type Json = Record<string, unknown>;

export interface Machine {
  readonly name: string;
  readonly zone: string;
  body: Json & { disks: AttachedDisk[] };
  serial: Buffer;
  serialStart: number;
}

export interface AttachedDisk extends Json {
  readonly deviceName: string;
  readonly source: string;
  readonly boot: boolean;
  readonly autoDelete: boolean;
}

export interface Image {
  readonly body: Json;
  readonly archive: string;
}

/** One request, as the parts of its path, its query and its body. */
export interface Request {
  readonly verb: string;
  readonly path: Readonly<Record<string, string>>;
  readonly zone: string;
  readonly query: URLSearchParams;
  readonly given: Json;
  /** Begins an operation that does something to a resource when its time has come. */
  readonly begin: (target: string, finish: () => void | Promise<void>) => object;
}

/** The key of a disk by its address. */
export function diskKey(source: string): string {
  const [zone, , name] = source.split('/').slice(-3);
  return `${zone}/${name}`;
}
