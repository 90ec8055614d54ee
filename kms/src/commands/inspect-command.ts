import { publicFields } from '../authorize/authorize.ts';
import type { KmsConfig } from '../config/kms-config.ts';
import { openServices } from '../services.ts';
import type { Log } from '../telemetry/log.ts';

/** `inspect`: what this KMS is by its evidence, the values that an operator registers, and whether it is allowed. */
export async function inspectCommand(config: KmsConfig, log: Log): Promise<string> {
  const services = openServices(config, { log });
  try {
    const { info } = await services.self.identity();
    const decision = await services.self
      .decide()
      .catch((error: Error) => ({ allowed: false, reason: error.message }));
    const report = {
      ...publicFields(info),
      tcb_status: info.tcbStatus,
      simulated: info.simulated,
      policy: config.policy,
      allowed: decision.allowed,
      reason: decision.reason,
    };
    return `${JSON.stringify(report, null, 2)}\n`;
  } finally {
    services.close();
  }
}
