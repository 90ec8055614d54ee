export { type AcmeAccount, accountFromJson, accountToJson, newAccount } from './account.ts';
export { type CaaRecord, caaChanges, wantedCaa } from './caa.ts';
export type { DnsProvider } from './dns/dns-provider.ts';
export { TSIG_ALGORITHMS, type TsigKey } from './dns/dns-update.ts';
export { type Rfc2136Options, rfc2136 } from './dns/rfc2136.ts';
export { CertbotError, type CertbotErrorCode } from './errors.ts';
export { type Issued, type IssueOptions, issueCertificate, registerAccount } from './issue-certificate.ts';
export { certReportData } from './report-data.ts';
