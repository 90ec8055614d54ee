/** Names that Google Cloud takes. */
export const GCP_NAME: RegExp = /^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$/;

/** `dstack-NAME` as clouds accept it: `^[a-z]([-a-z0-9]*[a-z0-9])?$`, at most 63 characters. */
export function instanceName(name: string): string {
  const clean = name.toLowerCase().replace(/[^a-z0-9-]/g, '-');
  return `dstack-${clean}`.slice(0, 63).replace(/-+$/, '');
}
