import type { LibraryHandle } from 'koffi';
import { AttestationError } from '../../errors.ts';

type Koffi = typeof import('koffi');

/** libc through koffi: only for what Node has no call for (ioctl, flock, vsock). */
export interface NativeCalls {
  readonly koffi: Koffi;
  readonly libc: LibraryHandle;
}

const LIBC_NAMES = ['libc.so.6', 'libc.musl-x86_64.so.1', 'libc.musl-aarch64.so.1'];

let loaded: Promise<NativeCalls | undefined> | undefined;

/** The native calls, loaded at the first use; undefined where koffi or a libc it can open is missing. */
export function nativeCalls(): Promise<NativeCalls | undefined> {
  loaded ??= load();
  return loaded;
}

/** The same where there is no other way. @throws AttestationError `device` */
export async function requireNativeCalls(purpose: string): Promise<NativeCalls> {
  const calls = await nativeCalls();
  if (calls) return calls;
  throw new AttestationError('device', `${purpose} needs the package koffi, which is not installed`);
}

async function load(): Promise<NativeCalls | undefined> {
  let koffi: Koffi;
  try {
    const module = await import('koffi');
    koffi = (module as unknown as { default?: Koffi }).default ?? module;
  } catch {
    return undefined;
  }
  for (const name of LIBC_NAMES) {
    try {
      return { koffi, libc: koffi.load(name) };
    } catch {
      // The next name.
    }
  }
  return undefined;
}
