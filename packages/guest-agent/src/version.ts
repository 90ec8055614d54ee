/** Version of the guest programs, as Version answers it. */
export const VERSION = '0.6.0';

/** Revision of the source: `git:` and 20 hex digits when the build knows it, else `unknown`. */
export const REVISION: string = process.env['DSTACK_REVISION'] ?? 'unknown';
