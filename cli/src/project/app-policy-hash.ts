type Hashes = { readonly composeHash: string; readonly osImageHash: string };

/**
 * The hash that an app contract has to allow. An enclave of AWS Nitro has no compose file that is measured by itself: its
 * image is its application, so that the key service asks the contracts with the hash of the image as compose hash too.
 */
export function appPolicyHash(isNitro: boolean, { composeHash, osImageHash }: Hashes): string {
  return isNitro ? osImageHash : composeHash;
}
