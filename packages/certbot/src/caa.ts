/** One CAA record (RFC 8659 section 4.1), with flags 0. */
export type CaaRecord = { readonly tag: string; readonly value: string };

/** Who may issue, and for whose account alone (RFC 8657 sections 3 and 4). */
export function caaValue(issuer: string, accountUri: string): string {
  return `${issuer};validationmethods=dns-01;accounturi=${accountUri}`;
}

/** The records that a base domain should have: certificates and wildcard certificates by this account alone. */
export function wantedCaa(issuer: string, accountUri: string): readonly CaaRecord[] {
  const value = caaValue(issuer, accountUri);
  return [
    { tag: 'issue', value },
    { tag: 'issuewild', value },
  ];
}

/** What is to be added and removed; records of other tags stay. Empty on both sides when nothing has to change. */
export function caaChanges(
  present: readonly CaaRecord[],
  wanted: readonly CaaRecord[],
): { readonly add: readonly CaaRecord[]; readonly remove: readonly CaaRecord[] } {
  const same = (one: CaaRecord) => (other: CaaRecord) => one.tag === other.tag && one.value === other.value;
  const governed = present.filter(({ tag }) => tag === 'issue' || tag === 'issuewild');
  return {
    add: wanted.filter((record) => !governed.some(same(record))),
    remove: governed.filter((record) => !wanted.some(same(record))),
  };
}
