import { FieldConfigEditorBuilder, FieldConfigSource, PanelData, identityOverrideProcessor } from '@grafana/data';
import { useStyles2 } from '@grafana/ui';
import { css } from '@emotion/css';

/** Registers the panel's own field properties; a property that is not listed is dropped and reported. */
export function custom<T>(defaults: Record<string, unknown>) {
  return (builder: FieldConfigEditorBuilder<T>): void => {
    for (const [id, defaultValue] of Object.entries(defaults)) {
      builder.addCustomEditor({
        id, path: id, name: id, defaultValue, editor: () => null, override: () => null,
        process: identityOverrideProcessor, shouldApply: () => true, settings: {},
      } as never);
    }
  };
}

/** What a panel without anything to draw says. */
export function Empty({ panelId, fieldConfig, data }: {
  panelId: number; fieldConfig: FieldConfigSource; data: PanelData;
}) {
  const style = useStyles2((theme) => css({
    height: '100%', display: 'flex', alignItems: 'center', justifyContent: 'center',
    color: theme.colors.text.secondary, fontSize: theme.typography.body.fontSize,
  }));
  return (
    <div className={style} data-empty={panelId}>
      {data.error ? '' : fieldConfig.defaults.noValue ?? 'No data'}
    </div>
  );
}
