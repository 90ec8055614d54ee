import { fromHex } from '@dstack-cloud/encoding';
import { AppError } from './errors.ts';

declare const brand: unique symbol;

/** Bytes that must not be mixed up with other bytes of the same length. */
export type Branded<Name extends string> = Uint8Array & { readonly [brand]: Name };

/** Application id, 20 bytes: the DstackApp contract's address, or the start of the compose hash. */
export type AppId = Branded<'AppId'>;
/** Instance id, 20 bytes, or empty when the application asks for none. */
export type InstanceId = Branded<'InstanceId'>;
/** SHA-256 of the bytes of app-compose.json, 32 bytes. */
export type ComposeHash = Branded<'ComposeHash'>;
/** SHA-256 of the platform's device id, 32 bytes. */
export type DeviceId = Branded<'DeviceId'>;
/** Identity of the guest operating system image, 32 bytes. */
export type OsImageHash = Branded<'OsImageHash'>;

function id<T extends Uint8Array>(value: Uint8Array | string, length: number, name: string): T {
  let bytes: Uint8Array;
  try {
    bytes = typeof value === 'string' ? fromHex(value, { prefix: 'allow' }) : value;
  } catch (cause) {
    throw new AppError('id-invalid', `${name} is not hex: ${(cause as Error).message}`, { cause });
  }
  if (bytes.length !== length) {
    throw new AppError('id-invalid', `${name} must be ${length} bytes, got ${bytes.length}`, {
      expected: `${length} bytes`,
      found: `${bytes.length} bytes`,
    });
  }
  return bytes as T;
}

/** 20 bytes or their hex (optional 0x) as an AppId. @throws AppError `id-invalid` */
export const asAppId = (value: Uint8Array | string): AppId => id<AppId>(value, 20, 'App id');
/** 20 bytes, or none, as an InstanceId. @throws AppError `id-invalid` */
export const asInstanceId = (value: Uint8Array | string): InstanceId =>
  value.length === 0 ? (new Uint8Array(0) as InstanceId) : id<InstanceId>(value, 20, 'Instance id');
/** 32 bytes or their hex as a ComposeHash. @throws AppError `id-invalid` */
export const asComposeHash = (value: Uint8Array | string): ComposeHash =>
  id<ComposeHash>(value, 32, 'Compose hash');
/** 32 bytes or their hex as a DeviceId. @throws AppError `id-invalid` */
export const asDeviceId = (value: Uint8Array | string): DeviceId => id<DeviceId>(value, 32, 'Device id');
/** 32 bytes or their hex as an OsImageHash. @throws AppError `id-invalid` */
export const asOsImageHash = (value: Uint8Array | string): OsImageHash =>
  id<OsImageHash>(value, 32, 'OS image hash');
