/** What `image:` of a compose file names. */
export type ImageReference =
  /** The image itself, by the digest of its configuration. */
  | { readonly kind: 'id'; readonly hex: string }
  /** By the digest of its manifest, or of an index that has it: any name before it says nothing more. */
  | { readonly kind: 'digest'; readonly hex: string; readonly name: string }
  /** By name and tag: whatever has that name. */
  | { readonly kind: 'tag'; readonly name: string };

/** Reads a reference as container engines do; undefined for what is none. */
export function parseImageReference(text: string): ImageReference | undefined {
  const id = /^(?:sha256:)?([0-9a-f]{64})$/.exec(text)?.[1];
  if (id !== undefined) return { kind: 'id', hex: id };
  const [rest = '', digest, ...more] = text.split('@');
  if (more.length > 0) return undefined;
  const name = fullName(rest);
  if (name === undefined) return undefined;
  if (digest === undefined) return { kind: 'tag', name };
  const hex = /^sha256:([0-9a-f]{64})$/.exec(digest)?.[1];
  return hex === undefined ? undefined : { kind: 'digest', hex, name };
}

const NAME =
  /^(?:[a-zA-Z0-9.-]+(?::\d+)?\/)?[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:\/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*$/;
const TAG = /^\w[\w.-]{0,127}$/;

/** `REGISTRY/PATH:TAG` in full: `web` is `docker.io/library/web:latest`. */
export function fullName(text: string): string | undefined {
  const colon = text.lastIndexOf(':');
  const hasTag = colon > text.lastIndexOf('/');
  const path = hasTag ? text.slice(0, colon) : text;
  const tag = hasTag ? text.slice(colon + 1) : 'latest';
  if (text.length > 512 || !NAME.test(path) || !TAG.test(tag)) return undefined;
  const first = path.split('/')[0]!;
  const hasRegistry = path.includes('/') && (/[.:]/.test(first) || first === 'localhost');
  const registry = hasRegistry ? '' : path.includes('/') ? 'docker.io/' : 'docker.io/library/';
  return `${registry}${path}:${tag}`.replace(/^index\.docker\.io\//, 'docker.io/');
}
