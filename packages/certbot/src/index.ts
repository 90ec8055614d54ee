export { type AcmeAccount, accountFromJson, accountToJson, newAccount } from './account.ts';
export { type CaaRecord, caaChanges, wantedCaa } from './caa.ts';
export { type CloudDnsOptions, cloudDns } from './dns/cloud-dns.ts';
export { type CloudflareOptions, cloudflare } from './dns/cloudflare.ts';
export type { DnsProvider } from './dns/dns-provider.ts';
export { TSIG_ALGORITHMS, type TsigKey } from './dns/dns-update.ts';
export { type Rfc2136Options, rfc2136 } from './dns/rfc2136.ts';
export { type Route53Options, route53 } from './dns/route53.ts';
export { type WebhookOptions, webhook } from './dns/webhook.ts';
export { CertbotError, type CertbotErrorCode } from './errors.ts';
export {
  caaIssuerOf,
  type Issued,
  type IssueOptions,
  issueCertificate,
  registerAccount,
} from './issue-certificate.ts';
export { certReportData } from './report-data.ts';
export { setCaa } from './set-caa.ts';
