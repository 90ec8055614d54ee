/** Examples of the commands, by the words that they are called with; `dstack-cloud` is written before each. */
export const EXAMPLES: Readonly<Record<string, readonly string[]>> = {
  new: ['new my-app', 'new my-app --platform gcp --project my-project --zone us-central1-a'],
  'config-edit': ['config-edit', 'config-edit --config ./config.json'],
  prepare: ['prepare', 'prepare -C my-app'],
  measure: ['measure', 'measure --json'],
  deploy: ['deploy', 'deploy --register', 'deploy --dry-run --json'],
  status: ['status', 'status --json -C my-app'],
  history: ['history', 'history --json'],
  open: ['open', 'open --agent'],
  logs: ['logs -n 20', 'logs web --follow', 'logs --json'],
  stop: ['stop'],
  start: ['start'],
  remove: ['remove', 'remove --yes --force'],
  list: ['list', 'list --json', 'list --project my-project'],
  verify: [
    'verify',
    'verify https://app.example.com:8090',
    'verify evidence.json --compose-hash $COMPOSE_HASH',
  ],
  plan: ['plan', 'plan --delete --json'],
  doctor: ['doctor', 'doctor -C my-app --json'],
  rollback: ['rollback', 'rollback 2'],
  pull: ['pull dstack-cloud-0.6.0', 'pull https://example.com/image.tar.gz --sha256 $HASH'],
  'fw allow': ['fw allow 443', 'fw allow 8090 --source 203.0.113.0/24'],
  'fw deny': ['fw deny 22'],
  'fw remove': ['fw remove 8080'],
  'fw list': ['fw list --json'],
  'image build': ['image build --name my-image', 'image build --dev --output ./images'],
  'image container': ['image container dstack-kms --output .'],
  'image lock': ['image lock', 'image lock --update'],
  'image list': ['image list'],
  'image measure': ['image measure dstack-cloud-0.6.0 --json'],
  'image diff': ['image diff dstack-cloud-0.6.0 dstack-cloud-0.5.9'],
  'image rm': ['image rm dstack-cloud-0.5.9'],
  'seal key': ['seal key --key-file owner.pem'],
  'app create': ['app create', 'app create --no-compose-hash'],
  'app allow': ['app allow', 'app allow $COMPOSE_HASH'],
  'app revoke': ['app revoke $COMPOSE_HASH'],
  'app show': ['app show --json'],
  'env list': ['env list'],
  'env set': ['env set API_KEY', 'env set API_KEY < key.txt'],
  'env unset': ['env unset API_KEY'],
  'kms audit verify': [
    'kms audit verify',
    'kms audit verify --url https://kms.example.com:12001 --log ./log',
  ],
  console: ['console', 'console watch.toml --port 0'],
  help: ['help deploy', 'help kms audit verify'],
};

/** The part of a help that shows how a command is called; empty where the command has its own. */
export function examplesOf(words: string): string {
  const lines = Object.hasOwn(EXAMPLES, words) ? EXAMPLES[words] : undefined;
  return lines === undefined
    ? ''
    : `\nExamples:\n${lines.map((line) => `  dstack-cloud ${line}`).join('\n')}`;
}
