import { imageNames } from '@dstack-cloud/os-image';
import { VmmError } from '../../errors.ts';
import { isImageName } from '../../manifest/manifest.ts';
import { pullImage } from './pull-image.ts';
import { parseRegistry } from './registry-address.ts';
import { RegistryClient } from './registry-client.ts';
import { registryPassword } from './registry-password.ts';
import type { Reach } from './registry-request.ts';

const LIST_TIMEOUT_MS = 60_000;
const PULL_TIMEOUT_MS = 2 * 3_600_000;
/** More would only share the connection and the disk. */
const MAX_PULLS = 2;
const MAX_FAILURES = 64;

/** What an OCI tag may be; the rest of its rules are those of an image's name. */
const FIRST = /^[A-Za-z0-9_]/;

/** A tag of the registry. */
export interface RegistryImage {
  readonly tag: string;
  /** Whether an image of this name is in the folder of images. */
  readonly local: boolean;
  readonly pulling: boolean;
  /** While it is pulled, such as `42 % of 180 MB`. */
  readonly progress: string;
  /** Why the last pull failed. */
  readonly error: string;
}

interface RegistryOptions {
  /** `image.registry` of the configuration; empty for none. */
  readonly registry: string;
  /** File with passwords, as Docker writes it; empty for none. */
  readonly authFile?: string;
  readonly imagePath: string;
  readonly pulled: (tag: string) => void;
  readonly failed: (tag: string, error: unknown) => void;
}

/** Images of the configured registry. A pull goes on after its call was answered, as in the original. */
export class RegistryImages {
  readonly #options: RegistryOptions;
  readonly #client: RegistryClient | undefined;
  readonly #pulls = new Map<string, { progress: string; readonly done: Promise<void> }>();
  readonly #failures = new Map<string, string>();
  readonly #closing = new AbortController();

  constructor(options: RegistryOptions, reach: Partial<Omit<Reach, 'origin'>> = {}) {
    const address = parseRegistry(options.registry);
    const { registry, authFile = '' } = options;
    const password = async () => (authFile === '' ? undefined : await registryPassword(authFile, registry));
    this.#options = options;
    this.#client = address && new RegistryClient(address, reach, password);
  }

  /** @throws VmmError `bad_config` without a registry, `registry_failed` */
  async list(): Promise<RegistryImage[]> {
    const signal = this.#until(LIST_TIMEOUT_MS);
    const tags = new Set((await this.#required().tags(signal)).filter(isTag));
    for (const tag of this.#pulls.keys()) tags.add(tag);
    const local = new Set(await imageNames(this.#options.imagePath));
    return [...tags].sort().map((tag) => ({
      tag,
      local: local.has(tag),
      pulling: this.#pulls.has(tag),
      progress: this.#pulls.get(tag)?.progress ?? '',
      error: this.#failures.get(tag) ?? '',
    }));
  }

  /**
   * Begins to pull an image; one that is being pulled already is not pulled twice.
   *
   * @throws VmmError `bad_config`, `bad_option`, `already_exists`, `no_resources`
   */
  async pull(tag: string): Promise<void> {
    const client = this.#required();
    if (!isTag(tag))
      throw new VmmError('bad_option', 'invalid registry tag: it cannot be the name of an image', {
        expected: '1 to 64 letters, digits, dots, dashes and underscores, without ..',
        found: JSON.stringify(tag.slice(0, 64)),
      });
    if ((await imageNames(this.#options.imagePath)).includes(tag))
      throw new VmmError('already_exists', `There is an image ${tag} already: delete it to pull it again`);
    if (this.#pulls.has(tag)) return;
    if (this.#pulls.size >= MAX_PULLS)
      throw new VmmError('no_resources', `${MAX_PULLS} images are being pulled: wait until one is done`, {
        expected: `fewer than ${MAX_PULLS}`,
        found: [...this.#pulls.keys()].join(', '),
      });
    this.#failures.delete(tag);
    this.#pulls.set(tag, { progress: 'begins', done: this.#run(client, tag) });
  }

  /** Ends what is under way; nothing of it stays. */
  async close(): Promise<void> {
    this.#closing.abort(new VmmError('registry_failed', 'The service ends'));
    await Promise.all([...this.#pulls.values()].map(({ done }) => done));
  }

  async #run(client: RegistryClient, tag: string): Promise<void> {
    try {
      const { imagePath, pulled } = this.#options;
      const progress = (received: number, size: number): void => {
        const pull = this.#pulls.get(tag);
        if (pull !== undefined) pull.progress = shown(received, size);
      };
      await pullImage(client, { tag, imagePath, signal: this.#until(PULL_TIMEOUT_MS), progress });
      pulled(tag);
    } catch (error) {
      this.#remember(tag, error);
      this.#options.failed(tag, error);
    } finally {
      this.#pulls.delete(tag);
    }
  }

  #remember(tag: string, error: unknown): void {
    const [oldest] = this.#failures.keys();
    if (this.#failures.size >= MAX_FAILURES && oldest !== undefined) this.#failures.delete(oldest);
    const { message, expected, found } = error as Partial<VmmError> & Error;
    const details = expected === undefined ? '' : ` (expected ${expected}, found ${found ?? 'nothing'})`;
    this.#failures.set(tag, `${message}${details}`.slice(0, 1024));
  }

  #required(): RegistryClient {
    if (this.#client !== undefined) return this.#client;
    throw new VmmError(
      'bad_config',
      'This VMM pulls no images: set image.registry in its configuration, build one with dstack-cloud image build, or copy its folder into image_path',
    );
  }

  #until(ms: number): AbortSignal {
    return AbortSignal.any([this.#closing.signal, timeout(ms)]);
  }
}

function timeout(ms: number): AbortSignal {
  const controller = new AbortController();
  const give = (): void =>
    controller.abort(new VmmError('registry_failed', `The registry took more than ${ms / 1000} seconds`));
  setTimeout(give, ms).unref();
  return controller.signal;
}

function isTag(tag: string): boolean {
  return isImageName(tag) && FIRST.test(tag);
}

function shown(received: number, size: number): string {
  return `${Math.floor((received / Math.max(size, 1)) * 100)} % of ${Math.ceil(size / 1e6)} MB`;
}
