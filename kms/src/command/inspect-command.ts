import { parseArgs } from 'node:util';
import { publicFields } from '../authorize/authorize.ts';
import { openServices } from '../services.ts';
import { COMMON_OPTIONS, type Command } from './command.ts';

/** `dstack-kms inspect`: the values that an operator registers for this KMS, and whether the policy knows them. */
export const inspectCommand: Command = {
  usage: 'inspect',
  summary: 'print what this KMS is by its evidence, and whether the policy allows it',
  async run(args, { load, log, print }) {
    const { values } = parseArgs({ args: [...args], options: COMMON_OPTIONS });
    const services = openServices(load(values.config), { log });
    try {
      const { info } = await services.self.identity();
      const decision = await services.self
        .decide()
        .catch((error: Error) => ({ allowed: false, reason: error.message }));
      print({
        ...publicFields(info),
        tcb_status: info.tcbStatus,
        simulated: info.simulated,
        policy: services.config.policy,
        allowed: decision.allowed,
        reason: decision.reason,
      });
    } finally {
      services.close();
    }
  },
};
