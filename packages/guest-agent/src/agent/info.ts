import { create } from '@bufbuild/protobuf';
import { type AppInfo, AppInfoSchema, memoizeEncoding } from '@dstack-cloud/prpc';
import type { Agent } from './agent.ts';
import type { LocalFacts } from './local-facts.ts';
import { machineIdentity } from './machine.ts';

/** Answers by what they were made from: Info is asked for often, and its 25 KB change seldom. */
const made = new WeakMap<LocalFacts, Map<string, AppInfo>>();

/** Info as the caller may see it: outsiders get tcb_info and vm_config only when the application says so. */
export async function info(agent: Agent, audience: 'inside' | 'outside'): Promise<AppInfo> {
  const facts = await (audience === 'inside' ? agent.local.facts() : agent.local.publicFacts());
  const full = audience === 'inside' || agent.compose.publicTcbinfo;
  const appCert = agent.demoCertificate.current();
  const answers = made.get(facts) ?? new Map<string, AppInfo>();
  made.set(facts, answers);
  const key = `${full} ${appCert}`;
  const known = answers.get(key);
  if (known !== undefined) return known;
  const answer = memoizeEncoding(describe(agent, facts, appCert, full));
  answers.set(key, answer);
  return answer;
}

function describe(agent: Agent, facts: LocalFacts, appCert: string, full: boolean): AppInfo {
  const { appInfo } = facts;
  const machine = machineIdentity(agent.config.root);
  return create(AppInfoSchema, {
    appId: appInfo.appId,
    instanceId: appInfo.instanceId,
    appCert,
    tcbInfo: full ? facts.tcbInfo : '',
    appName: agent.compose.name,
    deviceId: appInfo.deviceId,
    mrAggregated: appInfo.mrAggregated,
    osImageHash: appInfo.osImageHash,
    keyProviderInfo: facts.keyProviderInfo,
    composeHash: appInfo.composeHash,
    vmConfig: full ? agent.vmConfig : '',
    cloudVendor: machine.vendor,
    cloudProduct: machine.product,
  });
}
