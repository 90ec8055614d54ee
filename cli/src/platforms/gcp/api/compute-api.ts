import { setTimeout as sleep } from 'node:timers/promises';
import type { Labelled } from '../resources.ts';
import { GcpError, isNotFound } from './gcp-error.ts';
import { type GcpRequest, type GcpSession, newRequestId } from './gcp-session.ts';

/** Longest that an operation may take: an image of some GiB is made in minutes. */
const OPERATION_MS = 30 * 60 * 1000;
/** Least time between two questions about one operation. */
const WAIT_MS = 500;
const MAX_PAGES = 1000;

export interface Operation {
  readonly name: string;
  readonly status: string;
  readonly error?: { readonly errors?: readonly { readonly code?: string; readonly message?: string }[] };
}
export interface GcpImage extends Labelled {
  readonly status?: string;
  readonly description?: string;
  readonly diskSizeGb?: string;
  readonly guestOsFeatures?: readonly { readonly type?: string }[];
}
export interface GcpDisk extends Labelled {
  readonly sizeGb?: string;
  readonly users?: readonly string[];
}
export interface GcpAttachedDisk {
  readonly deviceName?: string;
  readonly source?: string;
  readonly boot?: boolean;
  readonly autoDelete?: boolean;
}
export interface GcpInstance extends Labelled {
  readonly status?: string;
  readonly zone?: string;
  readonly machineType?: string;
  readonly creationTimestamp?: string;
  readonly labelFingerprint?: string;
  readonly tags?: { readonly items?: readonly string[]; readonly fingerprint?: string };
  readonly disks?: readonly GcpAttachedDisk[];
  readonly networkInterfaces?: readonly {
    readonly network?: string;
    readonly networkIP?: string;
    readonly accessConfigs?: readonly { readonly natIP?: string }[];
  }[];
}
export interface GcpFirewall {
  readonly name: string;
  readonly description?: string;
  readonly network?: string;
  readonly priority?: number;
  readonly sourceRanges?: readonly string[];
  readonly targetTags?: readonly string[];
  readonly allowed?: readonly FirewallPorts[];
  readonly denied?: readonly FirewallPorts[];
}
interface FirewallPorts {
  readonly IPProtocol?: string;
  readonly ports?: readonly string[];
}

/** Part of a URL below `projects/`: each word is checked for what could lead elsewhere. */
function path(...words: readonly string[]): string {
  return words.map(encodeURIComponent).join('/');
}

/** Compute Engine of one project. */
export class ComputeApi {
  readonly session: GcpSession;
  readonly project: string;

  constructor(session: GcpSession, project: string) {
    this.session = session;
    this.project = project;
  }

  /** Undefined when there is none of that name. */
  async find<T>(...where: readonly string[]): Promise<T | undefined> {
    try {
      return (await this.#ask({ method: 'GET', url: this.#url(where) })) as T;
    } catch (error) {
      // A project that does not exist is no resource that is not there.
      if (isNotFound(error) && !/'projects\/[^/']+'/.test((error as Error).message)) return undefined;
      throw error;
    }
  }

  /** Every page of a list. */
  async list<T>(filter: string | undefined, ...where: readonly string[]): Promise<T[]> {
    const found: T[] = [];
    for await (const { items } of this.#pages<{ items?: T[] }>(filter, where)) found.push(...(items ?? []));
    return found;
  }

  /** Instances of all zones. */
  async instances(filter: string): Promise<GcpInstance[]> {
    const found: GcpInstance[] = [];
    type Page = { items?: Record<string, { instances?: GcpInstance[] }> };
    for await (const { items } of this.#pages<Page>(filter, ['aggregated', 'instances']))
      for (const { instances } of Object.values(items ?? {})) found.push(...(instances ?? []));
    return found;
  }

  /** Begins an operation and waits for its end. @throws GcpError with the operation's own error */
  async run(
    method: 'POST' | 'PATCH' | 'DELETE',
    where: readonly string[],
    body?: object,
    query: Readonly<Record<string, string>> = {},
  ): Promise<void> {
    const url = this.#url(where);
    const operation = (await this.#ask({
      ...{ method, url, query: { ...query, requestId: newRequestId() } },
      ...(body === undefined ? {} : { body }),
    })) as Operation;
    await this.#wait(operation, where[0] === 'zones' ? ['zones', where[1] ?? ''] : ['global']);
  }

  /** As `run` with DELETE; what is not there any more is deleted. */
  async remove(...where: readonly string[]): Promise<boolean> {
    try {
      await this.run('DELETE', where);
      return true;
    } catch (error) {
      if (isNotFound(error)) return false;
      throw error;
    }
  }

  async serialOutput(
    zone: string,
    instance: string,
    start: bigint,
  ): Promise<{ contents: string; start: bigint; next: bigint }> {
    const url = this.#url(['zones', zone, 'instances', instance, 'serialPort']);
    const answer = (await this.#ask({ method: 'GET', url, query: { port: '1', start: String(start) } })) as {
      contents?: string;
      start?: string;
      next?: string;
    };
    const { contents = '' } = answer;
    return { contents, start: BigInt(answer.start ?? start), next: BigInt(answer.next ?? start) };
  }

  async #wait(begun: Operation, scope: readonly string[]): Promise<void> {
    const deadline = performance.now() + OPERATION_MS;
    let operation = begun;
    while (operation.status !== 'DONE') {
      if (performance.now() > deadline)
        throw new GcpError(
          504,
          'timeout',
          `Operation ${operation.name} did not end in ${OPERATION_MS / 60_000} minutes`,
        );
      const url = this.#url([...scope, 'operations', operation.name, 'wait']);
      const asked = performance.now();
      operation = (await this.#ask({ method: 'POST', url })) as Operation;
      // The wait is Google's, and may end early.
      const early = operation.status !== 'DONE' && performance.now() - asked < WAIT_MS;
      if (early) await sleep(WAIT_MS, undefined, { signal: this.session.context.signal });
    }
    const [error] = operation.error?.errors ?? [];
    if (error !== undefined)
      throw new GcpError(400, error.code ?? 'error', error.message ?? 'The operation failed');
  }

  async *#pages<T>(filter: string | undefined, where: readonly string[]): AsyncGenerator<T> {
    let pageToken: string | undefined;
    for (let page = 0; page < MAX_PAGES; page += 1) {
      const answer = (await this.#ask({
        method: 'GET',
        url: this.#url(where),
        query: { filter, pageToken },
      })) as T & {
        nextPageToken?: string;
      };
      yield answer as Awaited<T>;
      pageToken = answer.nextPageToken;
      if (!pageToken) return;
    }
    throw new GcpError(502, 'tooLarge', 'The list has no end');
  }

  #url(where: readonly string[]): string {
    const below = where.length === 0 ? '' : `/${path(...where)}`;
    return `${this.session.computeUrl}projects/${path(this.project)}${below}`;
  }

  async #ask(request: GcpRequest): Promise<unknown> {
    return (await this.session.request(request)).json;
  }
}
