import { VmmError } from '../../errors.ts';

/** The registry does not answer, or not what was asked for. */
export function registryFailed(what: string, cause?: unknown): VmmError {
  return new VmmError('registry_failed', `The registry of images cannot be used: ${what}`, { cause });
}

/** A connection that did not come about or broke off: what is missing may be asked for again. */
export class BrokenOff extends VmmError {
  constructor(what: string, cause?: unknown) {
    super('registry_failed', `The registry of images cannot be used: ${what}`, { cause });
  }
}

/** It answers with an image that is none, or another than it announced. */
export function badRegistryImage(
  what: string,
  details: { readonly expected?: string; readonly found?: string; readonly cause?: unknown } = {},
): VmmError {
  return new VmmError('bad_image', `The image of the registry cannot be used: ${what}`, details);
}
