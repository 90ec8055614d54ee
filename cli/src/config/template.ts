/** What `config-edit` writes when there is no configuration yet. */
export const CONFIG_TEMPLATE: string = `${JSON.stringify(
  {
    _comment_platform: 'Platform of new projects: local, gcp or nitro',
    platform: 'gcp',
    _comment_services: 'Base URLs of the key service, the gateway and the TDX collateral service',
    services: {
      kms_urls: ['https://kms.tdxlab.dstack.org:12001'],
      gateway_urls: ['https://gateway.tdxlab.dstack.org:12002'],
      pccs_url: '',
    },
    _comment_image_search_paths: 'Folders with OS images',
    image_search_paths: ['~/.dstack/images'],
    _comment_gcp: 'Defaults for projects on Google Cloud',
    gcp: { project: '', zone: 'us-central1-a', bucket: '' },
    _comment_nitro: 'Defaults for projects on AWS Nitro Enclaves',
    nitro: { region: 'us-east-1' },
    _comment_chain:
      'Add "chain": {"rpc_url", "kms_contract", "private_key_file"} to check the KMS against its contract',
  },
  null,
  2,
)}\n`;
