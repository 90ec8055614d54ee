/** Version shown in X-App-Version and to the auth API; the line that this KMS is compatible with. */
export const VERSION = '0.6.0';

/** Value of the X-App-Version header (docs/protocol/kms.md section 1.5). */
export const APP_VERSION: string = `v${VERSION} (dstack-cloud)`;
