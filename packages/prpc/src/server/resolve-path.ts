import type { Mount, PlainRoute } from './options.ts';

export type Resolved<C> =
  | { readonly kind: 'rpc'; readonly mount: Mount<C>; readonly method: string }
  | { readonly kind: 'route'; readonly route: PlainRoute }
  | { readonly kind: 'status'; readonly status: 404 | 422 };

/**
 * Splits a request target; repeated slashes are one (docs/protocol/kms.md section 1.1). The absolute form counts as its
 * path, as every server must take it (RFC 9112 section 3.2.2).
 */
export function splitTarget(requested: string): { path: string; query: string } {
  const target = requested.replace(/^https?:\/\/[^/?]*/i, '');
  const mark = target.indexOf('?');
  const path = mark < 0 ? target : target.slice(0, mark);
  return {
    path: path.includes('//') ? path.replace(/\/{2,}/g, '/') : path,
    query: mark < 0 ? '' : target.slice(mark + 1),
  };
}

/**
 * Finds what serves a path. The method is exactly one percent-decoded segment after the mount; an empty one is
 * 422, a second segment or a trailing slash 404, and so is every verb but GET, HEAD and POST.
 */
export function resolvePath<C>(
  verb: string,
  path: string,
  mounts: readonly Mount<C>[],
  routes: readonly PlainRoute[],
): Resolved<C> {
  const reading = verb === 'GET' || verb === 'HEAD';
  if (!reading && verb !== 'POST') return { kind: 'status', status: 404 };
  for (const route of routes) {
    const allowed = route.method === 'POST' ? verb === 'POST' : reading;
    if (allowed && matches(route.path, path)) return { kind: 'route', route };
  }
  for (const mount of mounts) {
    const base = mount.path === '/' ? '/' : `${mount.path.replace(/\/$/, '')}/`;
    if (!path.startsWith(base)) continue;
    const segment = path.slice(base.length);
    if (segment === '') return { kind: 'status', status: 422 };
    if (segment.includes('/')) continue;
    const method = decodeSegment(segment);
    if (method !== undefined) return { kind: 'rpc', mount, method: trimPrefix(method, mount.trim) };
  }
  return { kind: 'status', status: 404 };
}

function matches(pattern: string, path: string): boolean {
  return pattern.endsWith('/*') ? path.startsWith(pattern.slice(0, -1)) : path === pattern;
}

function decodeSegment(segment: string): string | undefined {
  if (!segment.includes('%')) return segment;
  try {
    return decodeURIComponent(segment);
  } catch {
    return undefined;
  }
}

function trimPrefix(method: string, prefixes: string | readonly string[] = []): string {
  const prefix = [prefixes].flat().find((one) => one !== '' && method.startsWith(one));
  return prefix === undefined ? method : trimPrefix(method.slice(prefix.length), prefixes);
}
