import { PanelPlugin, PanelProps, renderTextPanelMarkdown, textUtil } from '@grafana/data';
import { ScrollContainer } from '@grafana/ui';

interface Options { mode: 'markdown' | 'html' | 'code'; content: string }

function TextPanel({ options, replaceVariables }: PanelProps<Options>) {
  const content = replaceVariables(options.content ?? '', {}, options.mode === 'code' ? 'text' : 'html');
  if (options.mode === 'code') {
    return <pre>{content}</pre>;
  }
  const html = options.mode === 'html' ? textUtil.sanitizeTextPanelContent(content) : renderTextPanelMarkdown(content);
  return (
    <ScrollContainer minHeight="100%">
      <div className="markdown-html" style={{ width: '100%' }} dangerouslySetInnerHTML={{ __html: html }} />
    </ScrollContainer>
  );
}

export const text = new PanelPlugin<Options>(TextPanel).setPanelOptions((builder) => {
  for (const [path, defaultValue] of Object.entries({ mode: 'markdown', content: '' })) {
    builder.addCustomEditor({ id: path, path: path as never, name: path, editor: () => null, defaultValue });
  }
});

text.meta = { ...text.meta, skipDataQuery: true };
