/** Where programs of an enclave look for their keys. */
export const KEY_FILE = '/var/run/dstack/keys.json';
