import { expect, test } from 'vitest';
import { checkConfig } from './check-config.ts';

const configured = (auto_bootstrap_domain: string) =>
  checkConfig({ core: { onboard: { auto_bootstrap_domain } } }, {});

// A wrong name must not get into the certificate that everybody who finds the KMS by its name has to check.
test.each(['', 'kms.example.com', 'localhost', '10.0.0.1', '::1', 'old_kms'])(
  'auto_bootstrap_domain may be %j',
  (name) => {
    expect(configured(name).core.onboard.auto_bootstrap_domain).toBe(name);
  },
);

test.each(['a b', 'kms.example.com.', '[::1]', 'fe80::1%eth0', 'https://kms.example.com', 'é.example'])(
  'auto_bootstrap_domain may not be %j',
  (name) => {
    expect(() => configured(name)).toThrow(
      /core\.onboard\.auto_bootstrap_domain: .*DNS name or an IP address/,
    );
  },
);
