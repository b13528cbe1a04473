/*
 * glombridge_dialogs.groovy - the dialogs of export, import and summary; not run by itself.
 *
 * Does:   asks for files and folders, shows messages and tables.
 * Needs:  QuPath 0.4 or later with its user interface, no extension; plain JavaFX, because QuPath's own dialogs moved
 *         from one version to the next.
 * Tried:  in QuPath 0.4.4 and 0.5.1, built from their sources with JavaFX 11.
 */

import groovy.transform.Field
import java.nio.file.Path
import java.util.concurrent.FutureTask
import javafx.application.Platform
import javafx.beans.property.ReadOnlyObjectWrapper
import javafx.collections.FXCollections
import javafx.event.EventHandler
import javafx.geometry.Insets
import javafx.scene.Scene
import javafx.scene.control.Alert
import javafx.scene.control.Button
import javafx.scene.control.Label
import javafx.scene.control.Tab
import javafx.scene.control.TabPane
import javafx.scene.control.TableColumn
import javafx.scene.control.TableView
import javafx.scene.control.TextArea
import javafx.scene.layout.Priority
import javafx.scene.layout.Region
import javafx.scene.layout.VBox
import javafx.stage.DirectoryChooser
import javafx.stage.FileChooser
import javafx.stage.Stage
import javafx.util.Callback

@Field Object shared = null
// Characters; longer texts do not set the width of a column.
@Field final int LONG_TEXT = 40
// QuPath's window.
@Field Object gui = null

/** See glombridge_shared.groovy. */
int getLevel() {
    return 2
}

/** Runs on JavaFX's thread and waits. */
Object onScreen(Closure work) {
    if (Platform.isFxApplicationThread()) {
        return work.call()
    }
    FutureTask task = new FutureTask(work)
    Platform.runLater(task)
    return task.get()
}

/** Where a dialog starts; null = wherever the last one ended. */
File getProjectFolder() {
    File folder = gui.getProject()?.getPath()?.getParent()?.toFile()
    return folder?.isDirectory() ? folder : null
}

/** A folder, or null: none was chosen. */
Path chooseFolder(String title) {
    return onScreen { new DirectoryChooser(title: title, initialDirectory: projectFolder).showDialog(gui.getStage())?.toPath() }
}

/** Files, none = none were chosen. */
List<Path> chooseFiles(String title) {
    return onScreen {
        FileChooser chooser = new FileChooser(title: title, initialDirectory: projectFolder)
        chooser.extensionFilters << new FileChooser.ExtensionFilter('GeoJSON', '*.geojson', '*.json')
        (chooser.showOpenMultipleDialog(gui.getStage()) ?: [])*.toPath()
    }
}

void tell(String head, List<String> lines, boolean isWell) {
    onScreen {
        Alert alert = new Alert(isWell ? Alert.AlertType.INFORMATION : Alert.AlertType.WARNING)
        alert.setTitle('glombridge')
        alert.setHeaderText(head)
        TextArea text = new TextArea(lines.join('\n'))
        text.setEditable(false)
        text.setWrapText(true)
        alert.getDialogPane().setContent(text)
        alert.initOwner(gui.getStage())
        alert.showAndWait()
    }
}

/**
 * A window with tables.
 *
 * @param tables title to rows; each row maps a column to a text, in the order of the columns
 * @param below what stands under them
 * @param save is called with the folder where the tables shall be written
 */
void showTables(String title, Map<String, List<Map>> tables, List<String> below, Closure save) {
    onScreen {
        TabPane tabs = new TabPane()
        tables.each { name, rows ->
            Tab tab = new Tab(name, table(rows))
            tab.setClosable(false)
            tabs.getTabs().add(tab)
        }
        VBox.setVgrow(tabs, Priority.ALWAYS)
        Button button = new Button('Save as CSV and JSON...')
        button.setOnAction({ event ->
            Path folder = chooseFolder('Folder for the tables')
            if (folder != null) {
                save.call(folder)
            }
        } as EventHandler)
        Label text = new Label(below.join('\n'))
        text.setWrapText(true)
        text.setMinHeight(Region.USE_PREF_SIZE)
        VBox box = new VBox(8, tabs, text, button)
        box.setPadding(new Insets(10))
        Stage stage = new Stage()
        stage.setTitle(title)
        stage.initOwner(gui.getStage())
        stage.setScene(new Scene(box, 1000, 520))
        stage.show()
    }
}

TableView table(List<Map> rows) {
    TableView<Map> view = new TableView<>(FXCollections.observableArrayList(rows))
    rows.collectMany { it.keySet() as List }.unique().each { name ->
        TableColumn<Map, Object> column = new TableColumn<>(name)
        column.setCellValueFactory({ cell -> new ReadOnlyObjectWrapper(cell.getValue()[name]) } as Callback)
        if (rows.any { "${it[name] ?: ''}".size() > LONG_TEXT }) {
            // Else a sentence pushes the figures out of sight.
            column.setPrefWidth(260)
        }
        view.getColumns().add(column)
    }
    return view
}
